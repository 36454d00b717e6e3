// CUDA's return codes as coded errors that say what failed and what to do.
#pragma once

#include <cuda_runtime_api.h>

namespace palimpsest::cuda {

// Throws ERR_DEVICE (ERR_OUT_OF_MEMORY for memory) where `status` is no success; `doing` names the call, e.g.
// "starting the kernel gemm". An error after which the device is lost to the process says so.
void check(cudaError_t status, const char* doing);

}  // namespace palimpsest::cuda
