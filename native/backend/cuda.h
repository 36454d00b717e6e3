// CUDA as the rest of the engine knows it: what of it is on this machine, and its backend. Defined in cuda/, or in
// cuda/no_cuda.cpp where this build has no CUDA compiler.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace palimpsest {

struct CudaDevice {
  int ordinal = 0;
  std::string name;        // "NVIDIA H200"
  std::string capability;  // "9.0"
  size_t total_bytes = 0, free_bytes = 0;
  std::string unusable;  // why its kernels cannot run, with the cure; empty where they can
};

// A library that is opened at run time where it is found.
struct CudaLibrary {
  std::string name;           // "cuBLASLt"
  std::string path, version;  // empty where it was not opened
  std::string reason;         // why our own kernels run in its place, with the cure; empty where it runs
};

struct CudaReport {
  bool built = false;           // this build has CUDA kernels
  std::string architectures;    // what they were compiled for: "80,90"
  std::string driver, runtime;  // "13.0"; the driver's is empty where there is none
  std::vector<CudaDevice> devices;
  std::vector<CudaLibrary> libraries;
  std::string reason, cure;  // why there is no device, and what to do; empty where there is one
};

// Whether this build has CUDA kernels; asks nobody.
bool cuda_built();

// Asks driver and libraries; a driver that is broken may end the process, so ask in a child process first.
CudaReport probe_cuda();

// Throws ERR_DEVICE with cause and cure.
std::shared_ptr<Backend> open_cuda(int ordinal);

}  // namespace palimpsest
