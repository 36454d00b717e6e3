// Pretended libraries on the pretend device: functions by the names that cuBLASLt and cuDNN give theirs.
#pragma once

#include <string>

#include "streams.h"

namespace cuda_host {

void* pretended_cublas_function(const std::string& name);
void* pretended_cudnn_function(const std::string& name);

// Work of a library's call, in the stream's turn.
template <class Work>
void on_device(cudaStream_t stream, Work work) {
  static_cast<void>(enqueue(stream, [work] { return work(), cudaSuccess; }));
}

}  // namespace cuda_host
