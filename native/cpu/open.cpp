// Opens the backend of a device name.
#include "core/error.h"
#include "cpu/cpu_backend.h"

namespace palimpsest {

std::shared_ptr<Backend> open_backend(const std::string& device) {
  if (device == "cpu") {
    static const std::shared_ptr<Backend> backend = std::make_shared<cpu::CpuBackend>();
    return backend;
  }
  throw Error(ErrorCode::device, "expected the device cpu, which is all that this build has kernels for, got '" +
                                     device + "'; choose device 'cpu'");
}

}  // namespace palimpsest
