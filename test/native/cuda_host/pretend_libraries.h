// Pretended libraries on the pretend device: functions by the names that cuBLASLt and cuDNN give theirs.
#pragma once

#include <string>

#include "pretend_device.h"

namespace cuda_host {

void* pretended_cublas_function(const std::string& name);
void* pretended_cudnn_function(const std::string& name);

template <class Work>
void on_device(Work work) {
  const OnDevice open;
  work();
}

}  // namespace cuda_host
