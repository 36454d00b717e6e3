// DeviceVector: a flat parameter-space vector in a device's memory, allocated by the queue's thread.
#pragma once

#include <exception>
#include <memory>
#include <vector>

#include "binding/step_queue.h"
#include "core/parameter_layout.h"
#include "core/tensor.h"

namespace palimpsest {

// Values waiting to be copied to a range of a vector, in the vector's type.
struct StagedRange {
  int64_t offset = 0, count = 0;
  std::vector<std::byte> values;
};

class DeviceVector {
 public:
  DeviceVector(std::shared_ptr<const ParameterLayout> layout, DType dtype, StepQueue& queue)
      : layout_(std::move(layout)), dtype_(dtype), queue_(queue) {}
  ~DeviceVector();
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;

  const std::shared_ptr<const ParameterLayout>& layout() const { return layout_; }
  DType dtype() const { return dtype_; }
  StepQueue& queue() const { return queue_; }
  size_t bytes() const { return static_cast<size_t>(layout_->length()) * size_of(dtype_); }

  // On the queue's thread: zeros, then the given ranges. A failure is kept, and thrown by every use of the vector.
  void create(const std::vector<StagedRange>& initial) noexcept;
  // Once created; throws what kept it from being so.
  Tensor whole() const;
  Tensor range(int64_t offset, int64_t count) const;
  void* data() const { return whole().data; }
  void write(const StagedRange& staged) const;

 private:
  std::shared_ptr<const ParameterLayout> layout_;
  DType dtype_;
  StepQueue& queue_;
  void* data_ = nullptr;
  std::exception_ptr failure_;
};

// Throws ERR_INVALID_ARGUMENT where the vector of that argument lies on another device than the queue's.
void expect_device(const DeviceVector& vector, const std::string& argument, const StepQueue& queue);

// True where both have the same parameters at the same places.
bool same_layout(const ParameterLayout& a, const ParameterLayout& b);

}  // namespace palimpsest
