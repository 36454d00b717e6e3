// Opens the backend of a device name.
#include <charconv>
#include <map>
#include <mutex>

#include "backend/cuda.h"
#include "core/error.h"

namespace palimpsest {

namespace {

// The device's number in "cuda" (0) or "cuda:3"; -1 for other names.
int cuda_ordinal(const std::string& device) {
  if (device == "cuda") return 0;
  if (!device.starts_with("cuda:")) return -1;
  int ordinal = -1;
  const char *first = device.data() + 5, *last = device.data() + device.size();
  const auto [end, failure] = std::from_chars(first, last, ordinal);
  return failure == std::errc() && end == last ? ordinal : -1;
}

}  // namespace

std::string device_name(const std::string& device) {
  const int ordinal = cuda_ordinal(device);
  return ordinal < 0 ? device : "cuda:" + std::to_string(ordinal);
}

std::shared_ptr<Backend> open_backend(const std::string& device) {
  if (device == "cpu") return open_cpu();
  const int ordinal = cuda_ordinal(device);
  if (ordinal < 0) {
    throw Error(ErrorCode::device, "expected the device 'cpu', 'cuda' or 'cuda:N', got '" + device + "'");
  }
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<Backend>> opened;
  const std::lock_guard<std::mutex> hold(mutex);
  std::weak_ptr<Backend>& last = opened[ordinal];
  if (std::shared_ptr<Backend> backend = last.lock()) return backend;
  std::shared_ptr<Backend> backend = open_cuda(ordinal);
  last = backend;
  return backend;
}

}  // namespace palimpsest
