// The device that this run of the tests is about.
#include "tested_device.h"

#include "check.h"

namespace palimpsest::check {

namespace {

std::string& chosen() {
  static std::string device = "cpu";
  return device;
}

}  // namespace

void test_on(const std::string& device) { chosen() = device; }
const std::string& tested_device() { return chosen(); }

std::shared_ptr<Backend> tested_backend() {
  about_the_device();
  static std::string reason;
  static std::shared_ptr<Backend> backend;
  if (backend == nullptr && reason.empty()) {
    try {
      backend = open_backend(tested_device());
    } catch (const Error& error) {
      reason = error.what();
    }
  }
  if (backend == nullptr) throw Unavailable{reason};
  return backend;
}

}  // namespace palimpsest::check
