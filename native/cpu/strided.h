// Loops over tensors of any strides: axes ordered by memory and merged where they can be.
#pragma once

#include <array>
#include <initializer_list>

#include "core/tensor.h"

namespace palimpsest::cpu {

constexpr int most_axes = 12;

// Axes of `operands` tensors that share dims, outermost first; the last axis is the innermost loop.
struct StridedLoop {
  int axes = 0, operands = 0;
  int64_t count = 1;  // product of dims
  std::array<int64_t, most_axes> dims{};
  std::vector<std::array<int64_t, most_axes>> strides;  // [operand][axis]

  int64_t stride(int operand, int axis) const { return strides[operand][axis]; }
};

// Orders the axes by the strides of the first operand, descending, drops those of size 1 and merges neighbours that
// are one run in every operand. Throws ERR_UNSUPPORTED above most_axes axes of size 2 or more.
StridedLoop strided_loop(const Dims& dims, const std::vector<const Dims*>& strides);

// Offsets of each operand while counting through the outer `axes` of a loop.
template <int operands>
struct Odometer {
  const StridedLoop& loop;
  int axes;
  std::array<int64_t, most_axes> at{};
  std::array<int64_t, operands> offset{};

  Odometer(const StridedLoop& over, int outer_axes, int64_t start) : loop(over), axes(outer_axes) {
    for (int axis = axes - 1; axis >= 0; --axis) {
      at[axis] = start % loop.dims[axis];
      start /= loop.dims[axis];
      for (int i = 0; i < operands; ++i) offset[i] += at[axis] * loop.strides[i][axis];
    }
  }

  void next() {
    for (int axis = axes - 1; axis >= 0; --axis) {
      for (int i = 0; i < operands; ++i) offset[i] += loop.strides[i][axis];
      if (++at[axis] < loop.dims[axis]) return;
      for (int i = 0; i < operands; ++i) offset[i] -= at[axis] * loop.strides[i][axis];
      at[axis] = 0;
    }
  }
};

}  // namespace palimpsest::cpu
