// The pretend device: memory that the host may not touch but through the interface, and the last error.
#pragma once

#include <string>

#include "cuda_runtime_api.h"

namespace cuda_host {

// While one lives, this thread is the device: its memory is open and other threads wait.
class OnDevice {
 public:
  OnDevice();
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
};

cudaError_t set_last(cudaError_t status, const std::string& what);
size_t dynamic_limit(const void* kernel);  // bytes of dynamic shared memory that a launch of it may ask for

// What fails from now on, for tests of errors: the next `count` allocations.
void refuse_allocations(int count);

}  // namespace cuda_host
