// The CPU's backend.
#include "cpu/cpu_backend.h"

namespace palimpsest {

std::shared_ptr<Backend> open_cpu() {
  static const std::shared_ptr<Backend> backend = std::make_shared<cpu::CpuBackend>();
  return backend;
}

}  // namespace palimpsest
