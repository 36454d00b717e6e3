// Dimensions, strides and layouts of tensors.
#include "core/shape.h"

#include <limits>

#include "core/error.h"

namespace palimpsest {

int64_t element_count(const Dims& dims) {
  int64_t count = 1;
  for (int64_t d : dims) {
    if (d < 0) throw Error(ErrorCode::shape, "expected dimensions of 0 or more, got " + to_string(dims));
    if (d > 0 && count > std::numeric_limits<int64_t>::max() / 16 / d) {
      throw Error(ErrorCode::shape, "expected a tensor that can be addressed, got dimensions " + to_string(dims));
    }
    count *= d;
  }
  return count;
}

Dims dense_strides(const Dims& dims, Layout layout) {
  const int rank = static_cast<int>(dims.size());
  Dims strides(dims.size());
  int64_t stride = 1;
  if (layout == Layout::channels_last && rank >= 3) {
    strides[1] = 1;
    stride = dims[1];
    for (int axis = rank - 1; axis >= 2; --axis) {
      strides[axis] = stride;
      stride *= dims[axis];
    }
    strides[0] = stride;
    return strides;
  }
  for (int axis = rank - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= dims[axis];
  }
  return strides;
}

bool layouts_coincide(const Dims& dims) {
  if (dims.size() < 3) return true;
  int64_t positions = 1;
  for (size_t axis = 2; axis < dims.size(); ++axis) positions *= dims[axis];
  return dims[1] == 1 || positions == 1;
}

Dims broadcast_dims(const Dims& a, const Dims& b) {
  const size_t rank = a.size() > b.size() ? a.size() : b.size();
  Dims out(rank);
  for (size_t i = 0; i < rank; ++i) {
    const int64_t da = i + a.size() >= rank ? a[i + a.size() - rank] : 1;
    const int64_t db = i + b.size() >= rank ? b[i + b.size() - rank] : 1;
    if (da != db && da != 1 && db != 1) {
      throw Error(ErrorCode::shape, "expected shapes that broadcast, got " + to_string(a) + " and " + to_string(b));
    }
    out[i] = da == 1 ? db : da;
  }
  return out;
}

Dims broadcast_strides(const Dims& dims, const Dims& strides, const Dims& to) {
  Dims out(to.size(), 0);
  const size_t lead = to.size() - dims.size();
  for (size_t i = 0; i < dims.size(); ++i) out[i + lead] = dims[i] == 1 ? 0 : strides[i];
  return out;
}

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

}  // namespace palimpsest
