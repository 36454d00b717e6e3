// Where each parameter lies in a flat parameter-space vector.
#include "core/parameter_layout.h"

#include "core/error.h"

namespace palimpsest {

ParameterLayout::ParameterLayout(std::vector<std::pair<std::string, Dims>> parameters) {
  constexpr int64_t alignment = 16;
  for (auto& [name, dims] : parameters) {
    if (find(name) >= 0)
      throw Error(ErrorCode::model_format, "expected distinct parameter names, got '" + name + "' twice");
    const int64_t size = element_count(dims);
    entries_.push_back({name, dims, length_, size});
    count_ += size;
    length_ += (size + alignment - 1) / alignment * alignment;
  }
}

int ParameterLayout::find(const std::string& name) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace palimpsest
