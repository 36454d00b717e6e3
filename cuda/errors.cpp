// CUDA's return codes: what each means to whoever sees it, and the cure.
#include "cuda/errors.h"

#include <string>

#include "core/error.h"

namespace palimpsest::cuda {

namespace {

// The cure of an error; null where the text of CUDA itself must do.
const char* cure_of(cudaError_t status) {
  switch (status) {
    case cudaErrorNoDevice:
      return "no NVIDIA GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES; in a container, start it with its "
             "GPUs (docker run --gpus all)";
    case cudaErrorInsufficientDriver:
      return "the NVIDIA driver is missing or older than the CUDA runtime of this build: install a newer driver";
    case cudaErrorInvalidDevice: return "devices() lists the devices there are";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "this build has no kernels for this GPU: build again with PALIMPSEST_CUDA_ARCHITECTURES=native";
    case cudaErrorDevicesUnavailable: return "another process holds the GPU alone, or its compute mode forbids use";
    case cudaErrorSystemDriverMismatch:
      return "the driver's library and its kernel module are of different versions: restart the machine, or the "
             "container with the host's library";
    case cudaErrorInitializationError:
      return "the driver could not start: look at nvidia-smi; a process that forked after it used a GPU cannot use it";
    default: return nullptr;
  }
}

// After these every later call fails in this process.
bool loses_the_device(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorLaunchFailure:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

}  // namespace

void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  const std::string what = std::string(cudaGetErrorName(status)) + " (" + cudaGetErrorString(status) + ") in " + doing;
  static_cast<void>(cudaGetLastError());  // a failure that is no lasting one must not be met again later
  if (status == cudaErrorMemoryAllocation) {
    throw Error(ErrorCode::out_of_memory, "expected enough memory on the device, got " + what);
  }
  const char* cure = cure_of(status);
  const char* lost = loses_the_device(status) ? "; the device is lost to this process: start a new one" : "";
  throw Error(ErrorCode::device,
              "expected a device that works, got " + what + (cure == nullptr ? "" : std::string("; ") + cure) + lost);
}

}  // namespace palimpsest::cuda
