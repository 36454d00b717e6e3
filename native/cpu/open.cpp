// The CPU's backend.
#include "cpu/cpu_backend.h"
#include "cpu/threads.h"

namespace palimpsest {

std::shared_ptr<Backend> open_cpu() {
  static const std::shared_ptr<Backend> backend = [] {
    cpu::thread_count();  // settles the team's size for the engine's loops too
    return std::make_shared<cpu::CpuBackend>();
  }();
  return backend;
}

}  // namespace palimpsest
