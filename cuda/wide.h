// Sixteen bytes at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace palimpsest::cuda {

// `n` values in one load or store.
template <class T, int n>
struct alignas(n * sizeof(T)) Wide {
  T at[n];
};

template <class T>
constexpr int wide_count = static_cast<int>(16 / sizeof(T));

inline bool is_wide(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Items of a loop that a grid's threads share: for (i = first_item(); i < n; i += item_stride()).
__device__ __forceinline__ int64_t first_item() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t item_stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

constexpr int threads_a_block = 256;
// Blocks beyond which a grid's threads rather loop.
constexpr int64_t most_blocks = int64_t{1} << 16;

}  // namespace palimpsest::cuda
