// A device's memory: a caching allocator, and the working memory that kernels keep from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>

namespace palimpsest::cuda {

// Each kernel family has slots of its own, so that one may call another while it holds memory.
enum class Slot {
  gemm,
  gemm_library,
  gemm_squares,
  conv,
  conv_weights,
  conv_panels,
  conv_sums,
  conv_library,
  depthwise,
  squares,
  reduction,
  vectors,
  indices,
  gathered_rows,
  batch_norm,
  channel_means,
  count_,
};

// Blocks of cudaMalloc, 256-byte aligned, kept after release for the next allocation of their size: the stream runs
// everything in order, so a block may be given out again while kernels that read it are still queued. What is kept is
// bounded: beyond `most_kept` bytes a released block goes back to the driver at once.
class Memory {
 public:
  explicit Memory(size_t most_kept) : most_kept_(most_kept) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // A non-null pointer for 0 bytes too. Throws ERR_OUT_OF_MEMORY with the bytes asked and free, after giving back what
  // is kept and trying again.
  void* allocate(size_t bytes);
  void release(void* data) noexcept;
  // Gives back what is kept.
  void trim() noexcept;

  size_t used() const;  // bytes given out
  size_t kept() const;  // bytes waiting for reuse
  size_t peak() const;  // the most given out since reset_peak
  void reset_peak();
  size_t limit() const;
  void set_limit(size_t bytes);  // of what is given out; 0: none

 private:
  void* take_kept(size_t bytes);
  void give_back_kept() noexcept;

  const size_t most_kept_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> sizes_;
  std::multimap<size_t, void*> free_;
  size_t used_ = 0, kept_ = 0, peak_ = 0, limit_ = 0;
};

}  // namespace palimpsest::cuda
