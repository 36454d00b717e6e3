// Fill, copy and addition over any strides; transpositions go through square tiles that stay in the first-level cache.
#include "cpu/moving.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa.h"
#include "cpu/strided.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

struct Assign {
  template <typename X, typename Y>
  static void apply(X x, Y& y) {
    y = static_cast<Y>(x);
  }
};

struct Accumulate {
  template <typename X, typename Y>
  static void apply(X x, Y& y) {
    y += static_cast<Y>(x);
  }
};

template <class Step, typename X, typename Y>
void move_run(const X* x, int64_t x_stride, Y* y, int64_t y_stride, int64_t n) {
  if (x_stride == 1 && y_stride == 1) {
    if constexpr (std::is_same_v<X, Y> && std::is_same_v<Step, Assign>) {
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(X));
    } else {
      for (int64_t i = 0; i < n; ++i) Step::apply(x[i], y[i]);
    }
  } else if (x_stride == 0 && y_stride == 1) {
    for (int64_t i = 0; i < n; ++i) Step::apply(x[0], y[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) Step::apply(x[i * x_stride], y[i * y_stride]);
  }
}

// y's innermost axis against another axis on which x is contiguous.
template <class Step, typename X, typename Y>
void move_tile(const X* x, int64_t x_stride, Y* y, int64_t y_stride, int64_t rows, int64_t columns) {
  constexpr int64_t tile = 16;
  for (int64_t i = 0; i < rows; i += tile) {
    const int64_t i_end = std::min(rows, i + tile);
    for (int64_t j = 0; j < columns; j += tile) {
      const int64_t j_end = std::min(columns, j + tile);
      for (int64_t r = i; r < i_end; ++r) {
        for (int64_t c = j; c < j_end; ++c) Step::apply(x[r + c * x_stride], y[r * y_stride + c]);
      }
    }
  }
}

// The outer axis on which x is contiguous, or -1.
int transposed_axis(const StridedLoop& loop) {
  const int inner = loop.axes - 1;
  if (loop.stride(0, inner) != 1 || loop.stride(1, inner) <= 1) return -1;
  for (int axis = 0; axis < inner; ++axis) {
    if (loop.stride(1, axis) == 1) return axis;
  }
  return -1;
}

void put_last_but_one(StridedLoop& loop, int axis) {
  for (; axis < loop.axes - 2; ++axis) {
    std::swap(loop.dims[axis], loop.dims[axis + 1]);
    for (auto& operand : loop.strides) std::swap(operand[axis], operand[axis + 1]);
  }
}

template <class Step, typename X, typename Y>
void move_transposed(StridedLoop& loop, int axis, const X* x, Y* y) {
  put_last_but_one(loop, axis);
  const int inner = loop.axes - 1, middle = loop.axes - 2;
  const int64_t rows = loop.dims[middle], columns = loop.dims[inner];
  constexpr int64_t strip = 64;  // rows a unit of work takes
  const int64_t strips = (rows + strip - 1) / strip, outer = loop.count / (rows * columns);
  parallel_for(outer * strips, static_cast<double>(loop.count), [&](int64_t begin, int64_t end, int) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Odometer<2> at(loop, middle, unit / strips);
      const int64_t row = unit % strips * strip;
      const int64_t y_stride = loop.stride(0, middle);
      const X* from = x + at.offset[1] + row;
      Y* to = y + at.offset[0] + row * y_stride;
      if constexpr (std::is_same_v<Step, Assign> && std::is_same_v<X, Y> && std::is_floating_point_v<X>) {
        typed_kernels<X>().transpose(columns, std::min(strip, rows - row), from, loop.stride(1, inner), to, y_stride);
      } else {
        move_tile<Step>(from, loop.stride(1, inner), to, y_stride, std::min(strip, rows - row), columns);
      }
    }
  });
}

template <class Step, typename X, typename Y>
void move(const Tensor& from, const Tensor& to) {
  StridedLoop loop = strided_loop(to.dims, {&to.strides, &from.strides});
  if (loop.count == 0) return;
  const X* x = from.as<const X>();
  Y* y = to.as<Y>();
  if (const int axis = transposed_axis(loop); axis >= 0) return move_transposed<Step>(loop, axis, x, y);
  const int inner = loop.axes - 1;
  const int64_t n = loop.dims[inner];
  constexpr int64_t piece = 16384;
  const int64_t pieces = (n + piece - 1) / piece;  // a long run is cut, so that the team shares it
  parallel_for(loop.count / n * pieces, static_cast<double>(loop.count) / 4, [&](int64_t begin, int64_t end, int) {
    Odometer<2> at(loop, inner, begin / pieces);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit % pieces * piece;
      const int64_t x_stride = loop.stride(1, inner), y_stride = loop.stride(0, inner);
      move_run<Step>(x + at.offset[1] + first * x_stride, x_stride, y + at.offset[0] + first * y_stride, y_stride,
                     std::min(piece, n - first));
      if ((unit + 1) % pieces == 0) at.next();
    }
  });
}

}  // namespace

void fill(const Tensor& y, double value) {
  with_any(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T element = static_cast<T>(value);
    const Tensor x{&element, y.dtype, y.dims, Dims(y.dims.size(), 0)};
    move<Assign, T, T>(x, y);
  });
}

void copy(const Tensor& x, const Tensor& y) {
  expect_dims("copy", y.dims, x);
  if (x.dtype == DType::i32 || y.dtype == DType::i32) {
    expect_type("copy of int32", DType::i32, x);
    expect_type("copy of int32", DType::i32, y);
    return move<Assign, int32_t, int32_t>(x, y);
  }
  with_float("copy", x.dtype, [&](auto from) {
    with_float("copy", y.dtype, [&](auto to) { move<Assign, decltype(from), decltype(to)>(x, y); });
  });
}

void add_into(const Tensor& x, const Tensor& y) {
  expect_dims("add_into", y.dims, x);
  with_float("add_into", x.dtype, [&](auto from) {
    with_float("add_into", y.dtype, [&](auto to) { move<Accumulate, decltype(from), decltype(to)>(x, y); });
  });
}

}  // namespace palimpsest::cpu
