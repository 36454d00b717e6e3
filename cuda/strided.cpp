// Ordering and merging of axes.
#include "cuda/strided.h"

#include <algorithm>

#include "core/error.h"

namespace palimpsest::cuda {

StridedAxes strided_axes(const Dims& dims, const std::vector<const Dims*>& strides) {
  StridedAxes loop;
  loop.count = element_count(dims);
  loop.strides.resize(strides.size());
  std::vector<size_t> order;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    if (dims[axis] != 1) order.push_back(axis);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return (*strides[0])[a] > (*strides[0])[b]; });
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    bool merges = !loop.dims.empty();
    for (size_t i = 0; i < strides.size() && merges; ++i) {
      merges = (*strides[i])[*axis] == loop.strides[i].back() * loop.dims.back();
    }
    if (merges) {
      loop.dims.back() *= dims[*axis];
      continue;
    }
    loop.dims.push_back(dims[*axis]);
    for (size_t i = 0; i < strides.size(); ++i) loop.strides[i].push_back((*strides[i])[*axis]);
  }
  if (loop.dims.size() > most_axes) {
    throw Error(ErrorCode::unsupported,
                "expected at most " + std::to_string(most_axes) +
                    " axes of size 2 or more that are no single run in memory, got dimensions " + to_string(dims));
  }
  if (loop.dims.empty()) {  // a single element
    loop.dims.push_back(1);
    for (auto& operand : loop.strides) operand.push_back(1);
  }
  return loop;
}

}  // namespace palimpsest::cuda
