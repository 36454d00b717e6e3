// CUDA's backend, and what a probe finds of CUDA on this machine.
#include <cuda_runtime_api.h>

#include "backend/cuda.h"
#include "core/error.h"
#include "cuda/cuda_backend.h"
#include "cuda/errors.h"
#include "cuda/library.h"

namespace palimpsest {

namespace {

std::string version_text(int version) {
  return version == 0 ? "" : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

CudaDevice device_of(int ordinal) {
  CudaDevice device;
  device.ordinal = ordinal;
  try {
    cudaDeviceProp found;
    cuda::check(cudaGetDeviceProperties(&found, ordinal), "looking at the device");
    device.name = found.name;
    device.capability = std::to_string(found.major) + "." + std::to_string(found.minor);
    cuda::check(cudaSetDevice(ordinal), "choosing the device");
    cuda::check(cudaMemGetInfo(&device.free_bytes, &device.total_bytes), "asking for its memory");
    cuda::CudaBackend backend(ordinal);
    // One kernel says whether this build has code for the device.
    void* memory = backend.allocate(64);
    backend.fill(dense_tensor(memory, DType::f32, {16}), 1);
    float values[16] = {};
    backend.copy_out(values, memory, sizeof values);
    backend.release(memory);
    if (values[15] != 1) device.unusable = "its first kernel gave a wrong result";
  } catch (const Error& error) {
    device.unusable = error.what();
  }
  return device;
}

}  // namespace

bool cuda_built() { return true; }

CudaReport probe_cuda() {
  CudaReport report;
  report.built = true;
  report.architectures = PALIMPSEST_CUDA_ARCHITECTURES;
  for (const cuda::LibraryState& state : cuda::libraries()) {
    report.libraries.push_back({state.name, state.path, state.version, state.reason});
  }
  int runtime = 0, driver = 0, count = 0;
  if (cudaRuntimeGetVersion(&runtime) == cudaSuccess) report.runtime = version_text(runtime);
  if (cudaDriverGetVersion(&driver) == cudaSuccess) report.driver = version_text(driver);
  try {
    cuda::check(cudaGetDeviceCount(&count), "looking for devices");
  } catch (const Error& error) {
    // A driver runs what was built for its own major version of CUDA and those before.
    const bool is_old = driver > 0 && driver / 1000 < runtime / 1000;
    report.reason = report.driver.empty() ? "no NVIDIA driver was found"
                    : is_old              ? "the NVIDIA driver is one for CUDA " + report.driver +
                                   ", this build needs one for CUDA " + std::to_string(runtime / 1000)
                             : error.what();
    report.cure = report.driver.empty()
                      ? "install the NVIDIA driver; in a container, start it with its GPUs (docker run --gpus all)"
                  : is_old ? "install a newer driver, or build again with nvcc of the driver's version"
                           : "look at nvidia-smi";
    return report;
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) report.devices.push_back(device_of(ordinal));
  if (count == 0) {
    report.reason = "the driver sees no GPU";
    report.cure = "look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  }
  return report;
}

std::shared_ptr<Backend> open_cuda(int ordinal) { return std::make_shared<cuda::CudaBackend>(ordinal); }

}  // namespace palimpsest
