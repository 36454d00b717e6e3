// Sums over any axes, accumulated in float64 in an order that depends on the shape only, and maxima along one axis.
#include "cuda/reduce.h"

#include "backend/checks.h"
#include "cuda/sums.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

struct Plain {
  __device__ double operator()(double x, int64_t) const { return x; }
};

// Kept axes of x and y, and summed axes of x.
struct Reduction {
  Strided<2> kept;
  Strided<1> summed;
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
  return {strided<2>(kept_dims, {&kept_x, &kept_y}), strided<1>(summed_dims, {&summed_x})};
}

// partial[part][o]: `group` threads sum one part of one output.
template <class T, int group>
__global__ void row_sums_kernel(Strided<2> kept, Strided<1> summed, int64_t parts, const T* x, double* partial) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % group;
  const int64_t units = kept.count * parts, in_block = threads_a_block / group;
  for (int64_t first = blockIdx.x * in_block; first < units; first += gridDim.x * in_block) {
    const int64_t unit = first + thread / group;
    double sum = 0;
    if (unit < units) {
      const int64_t part = unit / kept.count, end = summed.count * (part + 1) / parts;
      const T* from = x + kept.offsets(unit % kept.count).of[0];
#pragma unroll 4
      for (int64_t e = summed.count * part / parts + lane; e < end; e += group) {
        sum += static_cast<double>(from[summed.offsets(e).of[0]]);
      }
    }
    if constexpr (group == 32) {
      sum = warp_sum(sum);
    } else {
      sum = block_sum<group>(sum, thread);
      __syncthreads();
    }
    if (lane == 0 && unit < units) partial[unit] = sum;
  }
}

// y[o] = alpha sum over parts
template <class T>
__global__ void finish_sums_kernel(Strided<2> kept, int64_t parts, double alpha, const double* partial, T* y) {
  for (int64_t o = first_item(); o < kept.count; o += item_stride()) {
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) total += partial[part * kept.count + o];
    y[kept.offsets(o).of[1]] = static_cast<T>(alpha * total);
  }
}

template <class T>
void sum_rows(Device& device, const Reduction& r, int64_t parts, const T* x, double* partial) {
  const bool short_rows = r.summed.count / parts <= 1024;
  launch(device, "summing rows", short_rows ? row_sums_kernel<T, 32> : row_sums_kernel<T, threads_a_block>,
         dim3(grid_of(r.kept.count * parts, short_rows ? threads_a_block / 32 : 1, most_blocks)), dim3(threads_a_block),
         0, r.kept, r.summed, parts, x, partial);
}

// y = max, index = its first position, a NaN above everything
template <class T>
__global__ void max_kernel(Strided<3> loop, int64_t n, int64_t stride, const T* x, T* y, int32_t* index) {
  for (int64_t e = first_item(); e < loop.count; e += item_stride()) {
    const auto at = loop.offsets(e);
    const T* from = x + at.of[1];
    T best = from[0];
    int64_t first = 0;
    for (int64_t i = 1; i < n && best == best; ++i) {
      const T value = from[i * stride];
      if (value > best || value != value) best = value, first = i;
    }
    y[at.of[0]] = best;
    index[at.of[2]] = static_cast<int32_t>(first);
  }
}

}  // namespace

void reduce_sum(Device& device, const Tensor& x, const Tensor& y, double alpha) {
  expect_type("the result of reduce_sum", x.dtype, y);
  if (x.dims.size() != y.dims.size()) expect_dims("the result of reduce_sum", x.dims, y);
  for (size_t axis = 0; axis < x.dims.size(); ++axis) {
    if (y.dims[axis] != x.dims[axis] && y.dims[axis] != 1) expect_dims("the result of reduce_sum", x.dims, y);
  }
  with_float("reduce_sum", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Reduction r = split(x, y);
    if (r.kept.count == 0) return;
    const bool by_columns = r.kept.count > 1 && r.kept.strides[0][0] == 1 && r.kept.dims[0] >= 4;
    const int64_t parts = r.summed.count == 0 ? 0
                          : by_columns        ? column_parts(r.kept.count, r.summed.count)
                                              : parts_of(r.kept.count, r.summed.count, 4096);
    double* partial = device.workspace<double>(Slot::reduction, r.kept.count * parts);
    if (parts > 0 && by_columns) {
      column_sums(device, r.kept, r.summed, parts, Plain(), x.as<const T>(), partial);
    } else if (parts > 0) {
      sum_rows(device, r, parts, x.as<const T>(), partial);
    }
    launch(device, "finishing sums", finish_sums_kernel<T>, dim3(grid_of(r.kept.count, threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, r.kept, parts, alpha, partial, y.as<T>());
  });
}

void reduce_max(Device& device, const Tensor& x, int axis, const Tensor& y, const Tensor& index) {
  expect_axis("reduce_max", axis, x);
  expect_type("the result of reduce_max", x.dtype, y);
  expect_type("the positions of reduce_max", DType::i32, index);
  Dims dims = x.dims;
  const size_t along = static_cast<size_t>(axis);
  const int64_t n = dims[along], stride = x.strides[along];
  dims[along] = 1;
  expect_dims("the result of reduce_max", dims, y);
  expect_dims("the positions of reduce_max", dims, index);
  if (n == 0) throw Error(ErrorCode::shape, "expected at least one element along the axis of reduce_max, got 0");
  const Strided<3> loop = strided<3>(dims, {&y.strides, &x.strides, &index.strides});
  with_float("reduce_max", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "reduce_max", max_kernel<T>, dim3(grid_of(loop.count, threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, loop, n, stride, x.as<const T>(), y.as<T>(), index.as<int32_t>());
  });
}

}  // namespace palimpsest::cuda
