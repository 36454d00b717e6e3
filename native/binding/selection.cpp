// Gathering and scattering of selected parameters.
#include "binding/selection.h"

#include <algorithm>

namespace palimpsest {

Selection::Selection(const Napi::Value& names, const ParameterLayout& layout) {
  const Napi::Array list = array(names, "parameters");
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value value = list[i];
    const int found = layout.find(string(value, "parameters"));
    if (found < 0) refuse("names of parameters", "parameters", value);
    const ParameterEntry& entry = layout.entries()[static_cast<size_t>(found)];
    const bool twice = std::any_of(entries_.begin(), entries_.end(),
                                   [&](const ParameterEntry& other) { return other.offset == entry.offset; });
    if (twice) refuse("each parameter once", "parameters", value);
    entries_.push_back(entry);
    size_ += entry.size;
  }
  if (entries_.empty()) refuse("one parameter or more", "parameters", names);
}

template <class T>
std::vector<T> Selection::gather(const DeviceVector& vector) const {
  std::vector<T> out(static_cast<size_t>(size_));
  std::vector<char> raw;
  size_t at = 0;
  for (const ParameterEntry& entry : entries_) {
    const Tensor values = vector.range(entry.offset, entry.size);
    const size_t count = static_cast<size_t>(entry.size);
    raw.resize(count * size_of(vector.dtype()));
    vector.queue().backend().copy_out(raw.data(), values.data, raw.size());
    if (vector.dtype() == DType::f64) {
      const double* from = reinterpret_cast<const double*>(raw.data());
      std::transform(from, from + count, out.begin() + static_cast<int64_t>(at),
                     [](double v) { return static_cast<T>(v); });
    } else {
      const float* from = reinterpret_cast<const float*>(raw.data());
      std::transform(from, from + count, out.begin() + static_cast<int64_t>(at),
                     [](float v) { return static_cast<T>(v); });
    }
    at += count;
  }
  return out;
}

template <class T>
void Selection::scatter(std::span<const T> values, const DeviceVector& vector) const {
  size_t at = 0;
  std::vector<double> wide;
  std::vector<float> narrow;
  for (const ParameterEntry& entry : entries_) {
    const Tensor to = vector.range(entry.offset, entry.size);
    const std::span<const T> part = values.subspan(at, static_cast<size_t>(entry.size));
    if (vector.dtype() == DType::f64) {
      wide.assign(part.begin(), part.end());
      vector.queue().backend().copy_in(to.data, wide.data(), wide.size() * sizeof(double));
    } else {
      narrow.resize(part.size());
      std::transform(part.begin(), part.end(), narrow.begin(), [](T v) { return static_cast<float>(v); });
      vector.queue().backend().copy_in(to.data, narrow.data(), narrow.size() * sizeof(float));
    }
    at += part.size();
  }
}

template std::vector<float> Selection::gather(const DeviceVector&) const;
template std::vector<double> Selection::gather(const DeviceVector&) const;
template void Selection::scatter(std::span<const float>, const DeviceVector&) const;
template void Selection::scatter(std::span<const double>, const DeviceVector&) const;

}  // namespace palimpsest
