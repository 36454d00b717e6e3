// Taking and putting along an axis, and their adjoints: every element of the result has one thread, which finds what
// belongs there.
#include "cuda/along_axis.h"

#include <numeric>
#include <vector>

#include "backend/checks.h"
#include "cuda/launch.h"
#include "cuda/strided.h"
#include "cuda/upload.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

void expect_index_dims(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  expect_axis("an index", axis, x);
  expect_type("an index", DType::i32, index);
  expect_type("the values at an index", x.dtype, y);
  Dims dims = x.dims;
  dims[static_cast<size_t>(axis)] = 1;
  expect_dims("an index", dims, index);
  expect_dims("the values at an index", dims, y);
}

void expect_gather_dims(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  expect_axis("gather", axis, x);
  expect_type("gather", x.dtype, y);
  Dims dims = x.dims;
  const int64_t size = dims[static_cast<size_t>(axis)];
  dims[static_cast<size_t>(axis)] = static_cast<int64_t>(indices.size());
  expect_dims("gather", dims, y);
  for (const int64_t index : indices) {
    if (index < 0 || index >= size) {
      throw Error(ErrorCode::invalid_argument, "expected an index of 0 to " + std::to_string(size - 1) +
                                                   " along the axis, got " + std::to_string(index));
    }
  }
}

// y[.., 0, ..] = x[.., index, ..]
template <class T>
__global__ void take_kernel(Strided<3> loop, int64_t size, int64_t stride, const T* x, const int32_t* index, T* y,
                            int32_t* faults) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) {
    const auto at = loop.offsets(e);
    const int64_t position = index[at.of[1]];
    if (position >= 0 && position < size) y[at.of[0]] = x[at.of[2] + position * stride];
    else *faults = 1;
  }
}

// x_bar[.., i, ..] = i == index ? y_bar : 0, with the axis as the outermost of the loop
template <class T>
__global__ void put_kernel(Strided<3> loop, int64_t size, int64_t stride, const T* y_bar, const int32_t* index,
                           T* x_bar, int32_t* faults) {
  for (int64_t e = first_item(); e < loop.count * size; e += item_stride()) {
    const int64_t i = e / loop.count;
    const auto at = loop.offsets(e % loop.count);
    const int64_t position = index[at.of[1]];
    if (position < 0 || position >= size) *faults = 1;
    x_bar[at.of[0] + i * stride] = position == i ? y_bar[at.of[2]] : T(0);
  }
}

// y[.., j, ..] = x[.., indices[j], ..]; operands of the loop over y: y, the axis alone, x without the axis
template <class T>
__global__ void gather_kernel(Strided<3> loop, int64_t x_stride, const int64_t* indices, const T* x, T* y) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) {
    const auto at = loop.offsets(e);
    y[at.of[0]] = x[at.of[2] + indices[at.of[1]] * x_stride];
  }
}

// x_bar[.., i, ..] = sum of y_bar[.., j, ..] over the j of i in ascending order: order[starts[i] .. starts[i + 1])
template <class T>
__global__ void scatter_kernel(Strided<3> loop, int64_t y_stride, const int64_t* starts, const int64_t* order,
                               const T* y_bar, T* x_bar) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) {
    const auto at = loop.offsets(e);
    const int64_t i = at.of[1];
    T sum = 0;
    for (int64_t k = starts[i]; k < starts[i + 1]; ++k) sum += y_bar[at.of[2] + order[k] * y_stride];
    x_bar[at.of[0]] = sum;
  }
}

// A loop over y, the position along `axis` in it, and the place in x but for the axis.
Strided<3> along_loop(const Tensor& y, int axis, const Tensor& x) {
  Dims position(y.dims.size(), 0), others = x.strides;
  position[static_cast<size_t>(axis)] = 1;
  others[static_cast<size_t>(axis)] = 0;
  return strided<3>(y.dims, {&y.strides, &position, &others});
}

template <class Run>
void with_uploaded(Device& device, std::span<const int64_t> values, Run run) {
  const Piece piece = device.upload().take(std::max<size_t>(values.size_bytes(), 8));
  std::copy(values.begin(), values.end(), static_cast<int64_t*>(piece.host));
  device.upload().send(piece);
  run(static_cast<const int64_t*>(piece.device));
  device.upload().done(piece);
}

}  // namespace

void take_along_axis(Device& device, const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  expect_index_dims(x, index, axis, y);
  const size_t along = static_cast<size_t>(axis);
  const Strided<3> loop = strided<3>(y.dims, {&y.strides, &index.strides, &x.strides});
  with_any(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "take_along_axis", take_kernel<T>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, loop, x.dims[along], x.strides[along], x.as<const T>(), index.as<const int32_t>(),
           y.as<T>(), device.faults());
  });
}

void put_along_axis(Device& device, const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) {
  expect_index_dims(x_bar, index, axis, y_bar);
  const size_t along = static_cast<size_t>(axis);
  const Strided<3> loop = strided<3>(y_bar.dims, {&x_bar.strides, &index.strides, &y_bar.strides});
  const int64_t size = x_bar.dims[along];
  with_any(x_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "put_along_axis", put_kernel<T>, dim3(grid_of(loop.count * size, threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, loop, size, x_bar.strides[along], y_bar.as<const T>(), index.as<const int32_t>(),
           x_bar.as<T>(), device.faults());
  });
}

void gather(Device& device, const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  expect_gather_dims(x, indices, axis, y);
  const Strided<3> loop = along_loop(y, axis, x);
  if (loop.count == 0) return;
  with_uploaded(device, indices, [&](const int64_t* uploaded) {
    with_any(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      launch(device, "gather", gather_kernel<T>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
             dim3(threads_a_block), 0, loop, x.strides[static_cast<size_t>(axis)], uploaded, x.as<const T>(),
             y.as<T>());
    });
  });
}

void scatter_add(Device& device, const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) {
  expect_gather_dims(x_bar, indices, axis, y_bar);
  const Strided<3> loop = along_loop(x_bar, axis, y_bar);
  if (loop.count == 0) return;
  // Which positions of y_bar belong to each of x_bar: starts, then the positions, ascending.
  const size_t size = static_cast<size_t>(x_bar.dims[static_cast<size_t>(axis)]);
  std::vector<int64_t> table(size + 1 + indices.size(), 0);
  for (const int64_t index : indices) ++table[static_cast<size_t>(index) + 1];
  std::partial_sum(table.begin(), table.begin() + static_cast<int64_t>(size) + 1, table.begin());
  std::vector<int64_t> next(table.begin(), table.begin() + static_cast<int64_t>(size));
  for (size_t j = 0; j < indices.size(); ++j) {
    table[size + 1 + static_cast<size_t>(next[static_cast<size_t>(indices[j])]++)] = static_cast<int64_t>(j);
  }
  with_uploaded(device, table, [&](const int64_t* uploaded) {
    with_float("scatter_add", x_bar.dtype, [&](auto zero) {
      using T = decltype(zero);
      launch(device, "scatter_add", scatter_kernel<T>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
             dim3(threads_a_block), 0, loop, y_bar.strides[static_cast<size_t>(axis)], uploaded, uploaded + size + 1,
             y_bar.as<const T>(), x_bar.as<T>());
    });
  });
}

}  // namespace palimpsest::cuda
