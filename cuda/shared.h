// A block's shared memory: static by type, dynamic by size.
#pragma once

#include <cuda_runtime.h>

namespace palimpsest::cuda {

// One T for the block, uninitialised: give each use in a kernel a type of its own (a local struct of all its arrays).
template <class T>
__device__ __forceinline__ T& block_shared() {
  __shared__ T memory;
  return memory;
}

// The block's dynamic shared memory, `shared_bytes` of launch(), 16-byte aligned.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char palimpsest_dynamic_shared[];
  return reinterpret_cast<T*>(palimpsest_dynamic_shared);
}

}  // namespace palimpsest::cuda
