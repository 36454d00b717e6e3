// Ordering and merging of axes.
#include "cpu/strided.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace palimpsest::cpu {

StridedLoop strided_loop(const Dims& dims, const std::vector<const Dims*>& strides) {
  StridedLoop loop;
  loop.operands = static_cast<int>(strides.size());
  loop.strides.resize(strides.size());
  loop.count = element_count(dims);

  std::vector<size_t> order;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    if (dims[axis] != 1) order.push_back(axis);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return (*strides[0])[a] > (*strides[0])[b]; });
  for (const size_t axis : order) {
    const auto merges = [&] {
      if (loop.axes == 0) return false;
      for (size_t i = 0; i < strides.size(); ++i) {
        if (loop.strides[i][loop.axes - 1] != (*strides[i])[axis] * dims[axis]) return false;
      }
      return true;
    };
    if (merges()) {
      loop.dims[loop.axes - 1] *= dims[axis];
    } else {
      if (loop.axes == most_axes) {
        throw Error(ErrorCode::unsupported, "expected at most " + std::to_string(most_axes) +
                                                " axes of size 2 or more, got dimensions " + to_string(dims));
      }
      loop.dims[loop.axes++] = dims[axis];
    }
    for (size_t i = 0; i < strides.size(); ++i) loop.strides[i][loop.axes - 1] = (*strides[i])[axis];
  }
  if (loop.axes == 0) {  // a single element
    loop.axes = 1;
    loop.dims[0] = 1;
    for (auto& operand : loop.strides) operand[0] = 1;
  }
  return loop;
}

}  // namespace palimpsest::cpu
