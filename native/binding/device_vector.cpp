// Memory of a vector and views of it.
#include "binding/device_vector.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace palimpsest {

DeviceVector::~DeviceVector() {
  if (data_ != nullptr) queue_.backend().release(data_);
}

void DeviceVector::create(const std::vector<StagedRange>& initial) noexcept {
  try {
    data_ = queue_.backend().allocate(bytes());
    queue_.backend().fill(whole(), 0);
    for (const StagedRange& staged : initial) write(staged);
  } catch (...) {
    failure_ = std::current_exception();
  }
}

Tensor DeviceVector::range(int64_t offset, int64_t count) const {
  if (failure_) std::rethrow_exception(failure_);
  if (data_ == nullptr) throw Error(ErrorCode::internal, "expected a vector's memory before its use");
  if (offset < 0 || count < 0 || count > layout_->length() - offset) {
    throw Error(ErrorCode::shape, "expected a range of a vector of " + std::to_string(layout_->length()) + ", got " +
                                      std::to_string(offset) + " and " + std::to_string(count));
  }
  std::byte* start = static_cast<std::byte*>(data_) + static_cast<size_t>(offset) * size_of(dtype_);
  return dense_tensor(start, dtype_, {count});
}

Tensor DeviceVector::whole() const { return range(0, layout_->length()); }

void DeviceVector::write(const StagedRange& staged) const {
  queue_.backend().copy_in(range(staged.offset, staged.count).data, staged.values.data(), staged.values.size());
}

void expect_device(const DeviceVector& vector, const std::string& argument, const StepQueue& queue) {
  if (&vector.queue() == &queue) return;
  throw Error(ErrorCode::invalid_argument, "expected a vector on the device " + queue.device() + " for '" + argument +
                                               "', got one on " + vector.queue().device() +
                                               "; a vector stays on the device of the model that made it");
}

bool same_layout(const ParameterLayout& a, const ParameterLayout& b) {
  if (&a == &b) return true;
  return std::equal(a.entries().begin(), a.entries().end(), b.entries().begin(), b.entries().end(),
                    [](const ParameterEntry& x, const ParameterEntry& y) {
                      return x.name == y.name && x.dims == y.dims && x.offset == y.offset;
                    });
}

}  // namespace palimpsest
