// Aligned memory, and the working memory that kernels keep from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace palimpsest::cpu {

// 64-byte aligned; a non-null pointer for 0 bytes too. Throws ERR_OUT_OF_MEMORY with the bytes asked and free.
void* allocate_aligned(size_t bytes);
void release_aligned(void* data) noexcept;

// Of allocate_aligned, in this process: what is held, the most that was since the last reset_peak, what may still be
// had (of the machine, of the process's control group, of the limit), and the limit; 0 where none was set.
MemoryUse memory_use();
void reset_peak();
// 0 takes the limit away. What is held already stays.
void limit_memory(size_t bytes);

// Each kernel has slots of its own, so that one may call another while it holds memory.
enum class Slot {
  gemm,
  gemm_squares,
  conv_weights,
  conv_panels,
  conv_sums,
  depthwise,
  squares,
  elementwise,
  reduction,
  softmax,
  batch_norm,
  channel_means,
  channel_sums,
  pool,
  pool_places,
  onednn_scratchpad,
  onednn_weights,
  amx_left,
  amx_right,
  amx_sums,
  count_,
};

// At least `bytes` of memory of the calling thread, 64-byte aligned, valid until the next call with this slot on this
// thread. It only grows, so a steady loop does not allocate.
void* workspace(Slot slot, size_t bytes);

template <typename T>
T* workspace(Slot slot, int64_t count) {
  return static_cast<T*>(workspace(slot, static_cast<size_t>(count) * sizeof(T)));
}

// Starts to note, by slot, the working memory that kernels ask for; and what they asked for since, summed over threads.
// Between kernels only.
void watch_workspaces();
std::vector<size_t> watched_workspaces();

// Elements of T that a share of `count` elements takes so that the next one starts on a cache line of its own.
template <typename T>
constexpr int64_t whole_lines(int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  return (count + line - 1) / line * line;
}

}  // namespace palimpsest::cpu
