// Selection: some parameters of a layout, seen as one dense vector of float64 or float32 on the host.
#pragma once

#include <napi.h>

#include <span>
#include <vector>

#include "binding/arguments.h"
#include "binding/device_vector.h"

namespace palimpsest {

class Selection {
 public:
  Selection() = default;
  // names: an array of parameter names, each once.
  Selection(const Napi::Value& names, const ParameterLayout& layout);

  int64_t size() const { return size_; }
  const std::vector<ParameterEntry>& entries() const { return entries_; }

  // The selected values of a vector, converted; on the queue's thread.
  template <class T>
  std::vector<T> gather(const DeviceVector& vector) const;
  // Writes them back, converted to the vector's type.
  template <class T>
  void scatter(std::span<const T> values, const DeviceVector& vector) const;

 private:
  std::vector<ParameterEntry> entries_;
  int64_t size_ = 0;
};

}  // namespace palimpsest
