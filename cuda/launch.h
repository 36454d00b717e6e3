// Starts kernels by a plain call, so that the same source compiles for a GPU and for the emulator of test/native.
//
// Kernels and device functions use only what both offer: `__global__`, `__device__`, `__launch_bounds__`, threadIdx and
// its kin, `__syncthreads`, `__syncwarp`, warp shuffles and votes, `block_shared<T>()` and `dynamic_shared<T>()` of
// cuda/shared.h rather than `__shared__`, and intrinsics that test/native/cuda_host/cuda_runtime.h has. What needs PTX
// lives in a header of its own that the emulator replaces (cuda_host/cuda/<name>.h is found first).
#pragma once

#include <cuda_runtime.h>

#include "cuda/device.h"
#include "cuda/errors.h"

namespace palimpsest::cuda {

constexpr size_t default_shared_bytes = 48 * 1024;

// kernel(args...) on the device's stream. `name` is for error messages. Does nothing for an empty grid.
template <class... Parameters, class... Arguments>
void launch(Device& device, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > default_shared_bytes) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = device.stream();
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

// Blocks for `count` items in blocks of `per_block`, at most `most` (kernels then loop with a stride of the grid).
inline unsigned grid_of(int64_t count, int64_t per_block, int64_t most = 0x7fffffff) {
  const int64_t blocks = (count + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace palimpsest::cuda
