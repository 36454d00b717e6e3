// Taking and putting along an axis, and their adjoints.
#include "cpu/along_axis.h"

#include <algorithm>

#include "cpu/moving.h"
#include "cpu/strided.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

[[noreturn]] void refuse_index(int64_t index, int64_t size) {
  throw Error(ErrorCode::invalid_argument, "expected an index of 0 to " + std::to_string(size - 1) +
                                               " along the axis, got " + std::to_string(index));
}

// Visits the dims but `axis`: visit(offset of a, of b, of c).
template <class Visit>
void for_lines(Dims dims, int axis, const Tensor& a, const Tensor& b, const Tensor& c, double work, Visit visit) {
  dims[axis] = 1;
  const StridedLoop loop = strided_loop(dims, {&a.strides, &b.strides, &c.strides});
  parallel_for(loop.count, work, [&](int64_t begin, int64_t end, int) {
    Odometer<3> at(loop, loop.axes, begin);
    for (int64_t line = begin; line < end; ++line, at.next()) visit(at.offset[0], at.offset[1], at.offset[2]);
  });
}

void expect_index_dims(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  expect_axis("an index", axis, x);
  expect_type("an index", DType::i32, index);
  expect_type("the values at an index", x.dtype, y);
  Dims dims = x.dims;
  dims[axis] = 1;
  expect_dims("an index", dims, index);
  expect_dims("the values at an index", dims, y);
}

// body(offset in y, offset in x, count) for the runs of the dims but `axis`: pieces that the team shares.
template <class Body>
void for_runs(const Tensor& y, const Tensor& x, int axis, int64_t repeats, Body body) {
  constexpr int64_t piece = 1024;
  Dims dims = y.dims;
  dims[axis] = 1;
  const StridedLoop loop = strided_loop(dims, {&y.strides, &x.strides});
  if (loop.count == 0) return;
  const int inner = loop.axes - 1;
  const int64_t n = loop.dims[inner], pieces = (n + piece - 1) / piece;
  const int64_t y_stride = loop.stride(0, inner), x_stride = loop.stride(1, inner);
  parallel_for(loop.count / n * pieces, static_cast<double>(loop.count * repeats),
               [&](int64_t begin, int64_t end, int) {
                 for (int64_t unit = begin; unit < end; ++unit) {
                   const Odometer<2> at(loop, inner, unit / pieces);
                   const int64_t first = unit % pieces * piece;
                   body(at.offset[0] + first * y_stride, y_stride, at.offset[1] + first * x_stride, x_stride,
                        std::min(piece, n - first));
                 }
               });
}

void expect_gather_dims(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  expect_axis("gather", axis, x);
  expect_type("gather", x.dtype, y);
  Dims dims = x.dims;
  dims[axis] = static_cast<int64_t>(indices.size());
  expect_dims("gather", dims, y);
  for (const int64_t index : indices) {
    if (index < 0 || index >= x.dims[axis]) refuse_index(index, x.dims[axis]);
  }
}

}  // namespace

void take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  expect_index_dims(x, index, axis, y);
  const int64_t size = x.dims[axis], stride = x.strides[axis];
  with_any(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_lines(x.dims, axis, y, index, x, static_cast<double>(element_count(y.dims)),
              [&](int64_t to, int64_t at, int64_t from) {
                const int64_t position = index.as<const int32_t>()[at];
                if (position < 0 || position >= size) refuse_index(position, size);
                y.as<T>()[to] = x.as<const T>()[from + position * stride];
              });
  });
}

void put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) {
  expect_index_dims(x_bar, index, axis, y_bar);
  const int64_t size = x_bar.dims[axis], stride = x_bar.strides[axis];
  fill(x_bar, 0);
  with_any(x_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_lines(x_bar.dims, axis, y_bar, index, x_bar, static_cast<double>(element_count(y_bar.dims)),
              [&](int64_t from, int64_t at, int64_t to) {
                const int64_t position = index.as<const int32_t>()[at];
                if (position < 0 || position >= size) refuse_index(position, size);
                x_bar.as<T>()[to + position * stride] = y_bar.as<const T>()[from];
              });
  });
}

void gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  expect_gather_dims(x, indices, axis, y);
  const int64_t count = static_cast<int64_t>(indices.size());
  with_any(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_runs(y, x, axis, count, [&](int64_t to, int64_t to_stride, int64_t from, int64_t from_stride, int64_t n) {
      for (int64_t j = 0; j < count; ++j) {
        T* target = y.as<T>() + to + j * y.strides[axis];
        const T* source = x.as<const T>() + from + indices[static_cast<size_t>(j)] * x.strides[axis];
        for (int64_t i = 0; i < n; ++i) target[i * to_stride] = source[i * from_stride];
      }
    });
  });
}

void scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) {
  expect_gather_dims(x_bar, indices, axis, y_bar);
  fill(x_bar, 0);
  const int64_t count = static_cast<int64_t>(indices.size());
  with_float("scatter_add", x_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    // Shares differ in the other axes, so that repeated indices meet in one share and in order.
    for_runs(x_bar, y_bar, axis, count,
             [&](int64_t to, int64_t to_stride, int64_t from, int64_t from_stride, int64_t n) {
               for (int64_t j = 0; j < count; ++j) {
                 T* target = x_bar.as<T>() + to + indices[static_cast<size_t>(j)] * x_bar.strides[axis];
                 const T* source = y_bar.as<const T>() + from + j * y_bar.strides[axis];
                 for (int64_t i = 0; i < n; ++i) target[i * to_stride] += source[i * from_stride];
               }
             });
  });
}

}  // namespace palimpsest::cpu
