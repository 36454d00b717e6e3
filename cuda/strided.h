// Offsets into tensors of any strides: axes ordered by memory and merged where they can be, counted through on the
// device with divisions by multiplication.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "cuda/divisor.h"

namespace palimpsest::cuda {

constexpr int most_axes = 8;

// Axes of `operands` tensors that share dims, innermost first; a kernel parameter.
template <int operands>
struct Strided {
  int axes = 1;
  int64_t count = 1;  // product of dims
  int64_t dims[most_axes] = {};
  Divisor divisors[most_axes];
  int64_t strides[operands][most_axes] = {};

  // Offsets of element `e` of the loop, below 2^31.
  struct Offsets {
    int64_t of[operands];
  };
  __device__ __forceinline__ Offsets offsets(int64_t e) const {
    Offsets at{};
    if (count <= 0x7fffffff) {
      int32_t rest = static_cast<int32_t>(e);
      for (int axis = 0; axis < axes; ++axis) {
        const int32_t next = axis + 1 < axes ? divisors[axis].divide(rest) : 0;
        add(at, axis, rest - next * static_cast<int32_t>(dims[axis]));
        rest = next;
      }
    } else {
      for (int axis = 0; axis < axes; ++axis) {
        const int64_t next = axis + 1 < axes ? e / dims[axis] : 0;
        add(at, axis, e - next * dims[axis]);
        e = next;
      }
    }
    return at;
  }

 private:
  __device__ __forceinline__ void add(Offsets& at, int axis, int64_t position) const {
#pragma unroll
    for (int i = 0; i < operands; ++i) at.of[i] += position * strides[i][axis];
  }
};

// The same on the host, for any number of operands.
struct StridedAxes {
  std::vector<int64_t> dims;                  // innermost first, at least one
  std::vector<std::vector<int64_t>> strides;  // [operand][axis]
  int64_t count = 1;

  int axes() const { return static_cast<int>(dims.size()); }
  // Every element of the operand lies at its own number.
  bool dense(int operand) const { return axes() == 1 && (strides[static_cast<size_t>(operand)][0] == 1 || count == 1); }
};

// Orders the axes by the strides of the first operand, drops those of size 1 and merges neighbours that are one run in
// every operand. Throws ERR_UNSUPPORTED above most_axes axes of size 2 or more.
StridedAxes strided_axes(const Dims& dims, const std::vector<const Dims*>& strides);

template <int operands>
Strided<operands> strided(const StridedAxes& axes) {
  Strided<operands> loop;
  loop.axes = axes.axes();
  loop.count = axes.count;
  for (int axis = 0; axis < loop.axes; ++axis) {
    const size_t at = static_cast<size_t>(axis);
    loop.dims[axis] = axes.dims[at];
    loop.divisors[axis] = Divisor(axes.count <= 0x7fffffff ? axes.dims[at] : 1);
    for (int i = 0; i < operands; ++i) loop.strides[i][axis] = axes.strides[static_cast<size_t>(i)][at];
  }
  return loop;
}

template <int operands>
Strided<operands> strided(const Dims& dims, const std::vector<const Dims*>& strides) {
  return strided<operands>(strided_axes(dims, strides));
}

}  // namespace palimpsest::cuda
