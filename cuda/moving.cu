// Fill, copy and addition over any strides: sixteen bytes at a time where all is dense, through tiles in shared memory
// where one side runs across the other.
#include "cuda/moving.h"

#include <algorithm>

#include "backend/checks.h"
#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/strided.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

struct Assign {
  template <class X, class Y>
  __device__ static void apply(X x, Y& y) {
    y = static_cast<Y>(x);
  }
};
struct Accumulate {
  template <class X, class Y>
  __device__ static void apply(X x, Y& y) {
    y += static_cast<Y>(x);
  }
};

// y[e] = value
template <class T>
__global__ void fill_kernel(int64_t wides, int64_t n, T value, T* y) {
  constexpr int width = wide_count<T>;
  Wide<T, width> all;
#pragma unroll
  for (int i = 0; i < width; ++i) all.at[i] = value;
  for (int64_t e = first_item(); e < wides; e += item_stride()) reinterpret_cast<Wide<T, width>*>(y)[e] = all;
  for (int64_t e = wides * width + first_item(); e < n; e += item_stride()) y[e] = value;
}

template <class T>
__global__ void fill_strided_kernel(Strided<1> loop, T value, T* y) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) y[loop.offsets(e).of[0]] = value;
}

// Values of both types in groups of `width`; the rest one by one.
template <class Step, class X, class Y, int width>
__global__ void move_dense_kernel(int64_t wides, int64_t n, const X* x, Y* y) {
  for (int64_t e = first_item(); e < wides; e += item_stride()) {
    const Wide<X, width> from = reinterpret_cast<const Wide<X, width>*>(x)[e];
    Wide<Y, width>* to = reinterpret_cast<Wide<Y, width>*>(y) + e;
    Wide<Y, width> value{};
    if constexpr (!std::is_same_v<Step, Assign>) value = *to;
#pragma unroll
    for (int i = 0; i < width; ++i) Step::apply(from.at[i], value.at[i]);
    *to = value;
  }
  for (int64_t e = wides * width + first_item(); e < n; e += item_stride()) Step::apply(x[e], y[e]);
}

template <class Step, class X, class Y>
__global__ void move_strided_kernel(Strided<2> loop, const X* x, Y* y) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) {
    const auto at = loop.offsets(e);
    Step::apply(x[at.of[1]], y[at.of[0]]);
  }
}

constexpr int tile = 32, tile_rows = 8;

// y runs along columns, x along rows; `outer` counts through the other axes.
struct Transposition {
  int64_t rows, columns, x_column, y_row;
  int64_t row_tiles, column_tiles;
};

template <class Step, class X, class Y>
__global__ void move_transposed_kernel(Strided<2> outer, Transposition t, const X* x, Y* y) {
  struct Shared {
    X at[tile][tile + 1];
  };
  Shared& s = block_shared<Shared>();
  const int64_t tiles = t.row_tiles * t.column_tiles;
  const int lane = static_cast<int>(threadIdx.x), line = static_cast<int>(threadIdx.y);
  for (int64_t unit = blockIdx.x; unit < outer.count * tiles; unit += gridDim.x) {
    const auto at = outer.offsets(unit / tiles);
    const int64_t row = unit % tiles / t.column_tiles * tile, column = unit % tiles % t.column_tiles * tile;
    for (int i = line; i < tile; i += tile_rows) {
      if (row + lane < t.rows && column + i < t.columns) {
        s.at[lane][i] = x[at.of[1] + row + lane + (column + i) * t.x_column];
      }
    }
    __syncthreads();
    for (int i = line; i < tile; i += tile_rows) {
      if (row + i < t.rows && column + lane < t.columns) {
        Step::apply(s.at[i][lane], y[at.of[0] + (row + i) * t.y_row + column + lane]);
      }
    }
    __syncthreads();
  }
}

// The axis beside the innermost on which x runs, where it pays to go through tiles; -1 where it does not.
int transposed_axis(const StridedAxes& loop) {
  if (loop.axes() < 2 || loop.strides[0][0] != 1 || loop.strides[1][0] <= 1 || loop.dims[0] < 4) return -1;
  for (int axis = 1; axis < loop.axes(); ++axis) {
    const size_t at = static_cast<size_t>(axis);
    if (loop.strides[1][at] == 1 && loop.dims[at] >= 4) return axis;
  }
  return -1;
}

template <class Step, class X, class Y>
void move_transposed(Device& device, StridedAxes loop, int axis, const X* x, Y* y) {
  const size_t at = static_cast<size_t>(axis);
  Transposition t{};
  t.rows = loop.dims[at], t.columns = loop.dims[0];
  t.x_column = loop.strides[1][0], t.y_row = loop.strides[0][at];
  t.row_tiles = (t.rows + tile - 1) / tile, t.column_tiles = (t.columns + tile - 1) / tile;
  for (const size_t gone : {at, size_t{0}}) {
    loop.count /= loop.dims[gone];
    loop.dims.erase(loop.dims.begin() + static_cast<int64_t>(gone));
    for (auto& strides : loop.strides) strides.erase(strides.begin() + static_cast<int64_t>(gone));
  }
  if (loop.dims.empty()) {
    loop.dims.push_back(1);
    for (auto& strides : loop.strides) strides.push_back(0);
  }
  const Strided<2> outer = strided<2>(loop);
  launch(device, "transposing", move_transposed_kernel<Step, X, Y>,
         dim3(grid_of(outer.count * t.row_tiles * t.column_tiles, 1, most_blocks)), dim3(tile, tile_rows), 0, outer, t,
         x, y);
}

template <class Step, class X, class Y>
void move(Device& device, const Tensor& x, const Tensor& y) {
  const StridedAxes loop = strided_axes(y.dims, {&y.strides, &x.strides});
  if (loop.count == 0) return;
  const X* from = x.as<const X>();
  Y* to = y.as<Y>();
  if (loop.dense(0) && loop.dense(1)) {
    constexpr int width = std::min(wide_count<X>, wide_count<Y>);
    const int64_t wides = is_wide(from) && is_wide(to) ? loop.count / width : 0;
    launch(device, "copying", move_dense_kernel<Step, X, Y, width>,
           dim3(grid_of(std::max(wides, loop.count - wides * width), threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, wides, loop.count, from, to);
    return;
  }
  if (const int axis = transposed_axis(loop); axis > 0) return move_transposed<Step>(device, loop, axis, from, to);
  launch(device, "copying", move_strided_kernel<Step, X, Y>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
         dim3(threads_a_block), 0, strided<2>(loop), from, to);
}

}  // namespace

void fill(Device& device, const Tensor& y, double value) {
  const StridedAxes loop = strided_axes(y.dims, {&y.strides});
  if (loop.count == 0) return;
  with_any(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = y.as<T>();
    if (loop.dense(0)) {
      const int64_t wides = is_wide(to) ? loop.count / wide_count<T> : 0;
      launch(device, "filling", fill_kernel<T>,
             dim3(grid_of(std::max(wides, loop.count - wides * wide_count<T>), threads_a_block, most_blocks)),
             dim3(threads_a_block), 0, wides, loop.count, static_cast<T>(value), to);
    } else {
      launch(device, "filling", fill_strided_kernel<T>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
             dim3(threads_a_block), 0, strided<1>(loop), static_cast<T>(value), to);
    }
  });
}

void copy(Device& device, const Tensor& x, const Tensor& y) {
  expect_dims("copy", x.dims, y);
  if (x.dtype == DType::i32 || y.dtype == DType::i32) {
    expect_type("copy", x.dtype, y);
    return move<Assign, int32_t, int32_t>(device, x, y);
  }
  with_float("copy", x.dtype, [&](auto from) {
    with_float("copy", y.dtype, [&](auto to) { move<Assign, decltype(from), decltype(to)>(device, x, y); });
  });
}

void add_into(Device& device, const Tensor& x, const Tensor& y) {
  expect_dims("add_into", x.dims, y);
  with_float("add_into", x.dtype, [&](auto from) {
    with_float("add_into", y.dtype, [&](auto to) { move<Accumulate, decltype(from), decltype(to)>(device, x, y); });
  });
}

}  // namespace palimpsest::cuda
