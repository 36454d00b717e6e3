// Where each parameter lies in a flat parameter-space vector: 16-element aligned offsets, zero padding between.
#pragma once

#include <string>
#include <vector>

#include "core/shape.h"

namespace palimpsest {

struct ParameterEntry {
  std::string name;
  Dims dims;           // ONNX layout, row-major
  int64_t offset = 0;  // in elements
  int64_t size = 0;
};

class ParameterLayout {
 public:
  ParameterLayout() = default;
  explicit ParameterLayout(std::vector<std::pair<std::string, Dims>> parameters);

  const std::vector<ParameterEntry>& entries() const { return entries_; }
  int64_t length() const { return length_; }          // of the flat buffer, padding included
  int64_t parameter_count() const { return count_; }  // padding excluded
  int find(const std::string& name) const;            // -1 where there is none

 private:
  std::vector<ParameterEntry> entries_;
  int64_t length_ = 0, count_ = 0;
};

}  // namespace palimpsest
