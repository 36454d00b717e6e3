// Sums over any axes, accumulated in float64 in an order that depends on the shape only, and maxima along one axis.
#include "cpu/reduce.h"

#include <algorithm>
#include <cmath>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/strided.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

// Kept axes and summed axes of x, each in memory order; operands: x, and y for the kept ones.
struct Reduction {
  StridedLoop kept, summed;
};

Reduction split(const Tensor& x, const Tensor& y) {
  Dims kept_dims, kept_x, kept_y, summed_dims, summed_x;
  for (size_t axis = 0; axis < x.dims.size(); ++axis) {
    if (y.dims[axis] == x.dims[axis]) {
      kept_dims.push_back(x.dims[axis]);
      kept_x.push_back(x.strides[axis]);
      kept_y.push_back(y.strides[axis]);
    } else {
      summed_dims.push_back(x.dims[axis]);
      summed_x.push_back(x.strides[axis]);
    }
  }
  return {strided_loop(kept_dims, {&kept_x, &kept_y}), strided_loop(summed_dims, {&summed_x})};
}

// Parts of `count` terms that are summed apart: a fixed cut, so that the bits do not depend on the threads.
int64_t parts_of(int64_t count, int64_t outputs) {
  constexpr int64_t most_parts = 64, terms_a_part = 4096;
  if (outputs >= most_parts) return 1;
  return std::clamp<int64_t>(count * outputs / terms_a_part, 1, most_parts);
}

// One output's sum of the summed axes' rows [begin, end), where x runs along the innermost summed axis.
template <typename T>
double sum_rows(const TypedKernels<T>& kernels, const StridedLoop& summed, const T* x, int64_t begin, int64_t end) {
  const int inner = summed.axes - 1;
  const int64_t n = summed.dims[inner], stride = summed.stride(0, inner);
  double total = 0;
  Odometer<1> at(summed, inner, begin);
  for (int64_t row = begin; row < end; ++row, at.next()) {
    const T* from = x + at.offset[0];
    if (stride == 1) {
      total += kernels.sum(from, n);
    } else {
      double line = 0;
      for (int64_t i = 0; i < n; ++i) line += from[i * stride];
      total += line;
    }
  }
  return total;
}

template <typename T>
void sum_each(const Reduction& r, const T* x, T* y, double alpha) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  StridedLoop summed = r.summed;
  const int64_t outputs = r.kept.count;
  // A single long run is cut into rows, so that its parts can be summed by several threads.
  constexpr int64_t piece = 4096;
  if (summed.axes == 1 && summed.dims[0] >= 2 * piece && summed.dims[0] % piece == 0) {
    const int64_t stride = summed.stride(0, 0);
    summed.axes = 2;
    summed.dims = {summed.dims[0] / piece, piece};
    summed.strides[0] = {stride * piece, stride};
  }
  const int64_t rows = summed.count / summed.dims[summed.axes - 1];
  const int64_t parts = std::min(rows, parts_of(summed.count, outputs));
  double* partial = workspace<double>(Slot::reduction, outputs * parts);
  parallel_for(outputs * parts, static_cast<double>(outputs) * summed.count / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Odometer<2> at(r.kept, r.kept.axes, unit / parts);
      const int64_t part = unit % parts;
      partial[unit] = sum_rows(kernels, summed, x + at.offset[0], rows * part / parts, rows * (part + 1) / parts);
    }
  });
  Odometer<2> at(r.kept, r.kept.axes, 0);
  for (int64_t o = 0; o < outputs; ++o, at.next()) {
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) total += partial[o * parts + part];
    y[at.offset[1]] = static_cast<T>(alpha * total);
  }
}

// x is contiguous along the innermost kept axis: whole rows of sums at a time.
template <typename T>
void sum_columns(const Reduction& r, const T* x, T* y, double alpha) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int inner = r.kept.axes - 1;
  const int64_t columns = r.kept.dims[inner], outer = r.kept.count / columns;
  const int last = r.summed.axes - 1;
  const int64_t run = r.summed.dims[last], run_stride = r.summed.stride(0, last);
  constexpr int64_t rows_a_part = 1024;
  const int64_t parts = parts_of(r.summed.count * std::min<int64_t>(columns, 64), outer);
  const int64_t pieces = std::max<int64_t>(1, std::min(parts, r.summed.count / rows_a_part + 1));
  double* partial = workspace<double>(Slot::reduction, outer * pieces * columns);
  parallel_for(
      outer * pieces, static_cast<double>(r.kept.count) * r.summed.count / 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t unit = begin; unit < end; ++unit) {
          double* sums = partial + unit * columns;
          std::fill_n(sums, columns, 0.0);
          const Odometer<2> at(r.kept, inner, unit / pieces);
          const int64_t total = r.summed.count, piece = unit % pieces;
          for (int64_t row = total * piece / pieces; row < total * (piece + 1) / pieces;) {
            const Odometer<1> from(r.summed, last, row / run);
            const int64_t first = row % run, count = std::min(run - first, total * (piece + 1) / pieces - row);
            kernels.add_rows(x + at.offset[0] + from.offset[0] + first * run_stride, count, run_stride, columns, sums);
            row += count;
          }
        }
      });
  for (int64_t o = 0; o < outer; ++o) {
    const Odometer<2> at(r.kept, inner, o);
    for (int64_t j = 0; j < columns; ++j) {
      double total = 0;
      for (int64_t piece = 0; piece < pieces; ++piece) total += partial[(o * pieces + piece) * columns + j];
      y[at.offset[1] + j * r.kept.stride(1, inner)] = static_cast<T>(alpha * total);
    }
  }
}

}  // namespace

void reduce_sum(const Tensor& x, const Tensor& y, double alpha) {
  expect_type("the result of reduce_sum", x.dtype, y);
  if (x.dims.size() != y.dims.size()) expect_dims("the result of reduce_sum", x.dims, y);
  for (size_t axis = 0; axis < x.dims.size(); ++axis) {
    if (y.dims[axis] != x.dims[axis] && y.dims[axis] != 1) expect_dims("the result of reduce_sum", x.dims, y);
  }
  with_float("reduce_sum", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Reduction r = split(x, y);
    if (r.kept.count == 0) return;
    if (r.summed.count == 0) {
      Odometer<2> at(r.kept, r.kept.axes, 0);
      for (int64_t o = 0; o < r.kept.count; ++o, at.next()) y.as<T>()[at.offset[1]] = 0;
      return;
    }
    const int inner = r.kept.axes - 1;
    const bool by_columns = r.kept.count > 1 && r.kept.stride(0, inner) == 1 && r.kept.dims[inner] >= 4;
    if (by_columns) {
      sum_columns(r, x.as<const T>(), y.as<T>(), alpha);
    } else {
      sum_each(r, x.as<const T>(), y.as<T>(), alpha);
    }
  });
}

void reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) {
  expect_axis("reduce_max", axis, x);
  expect_type("the result of reduce_max", x.dtype, y);
  expect_type("the positions of reduce_max", DType::i32, index);
  Dims dims = x.dims;
  const int64_t n = dims[axis], stride = x.strides[axis];
  dims[axis] = 1;
  expect_dims("the result of reduce_max", dims, y);
  expect_dims("the positions of reduce_max", dims, index);
  if (n == 0) throw Error(ErrorCode::shape, "expected at least one element along the axis of reduce_max, got 0");
  const StridedLoop loop = strided_loop(dims, {&y.strides, &x.strides, &index.strides});
  with_float("reduce_max", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(loop.count, static_cast<double>(loop.count) * n, [&](int64_t begin, int64_t end, int) {
      Odometer<3> at(loop, loop.axes, begin);
      for (int64_t e = begin; e < end; ++e, at.next()) {
        const T* from = x.as<const T>() + at.offset[1];
        T best = from[0];
        int64_t first = 0;
        for (int64_t i = 1; i < n && !std::isnan(best); ++i) {
          if (from[i * stride] > best || std::isnan(from[i * stride])) best = from[i * stride], first = i;
        }
        y.as<T>()[at.offset[0]] = best;
        index.as<int32_t>()[at.offset[2]] = static_cast<int32_t>(first);
      }
    });
  });
}

}  // namespace palimpsest::cpu
