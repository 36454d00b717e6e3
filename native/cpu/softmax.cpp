// Softmax and its logarithm along an axis, shifted by the maximum.
#include <cmath>

#include "cpu/along_axis.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/strided.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

// y = e^{x - max} / sum, or x - max - log sum; x and y may be the same line.
template <typename T>
void softmax_line(const TypedKernels<T>& kernels, const T* x, int64_t n, bool logarithm, T* scratch, T* y) {
  const T most = kernels.max(x, n);
  if (!logarithm) {
    const double total = kernels.exp_sum(x, most, y, n);
    return kernels.shift_scale(y, T(0), static_cast<T>(1 / total), y, n);
  }
  const double total = kernels.exp_sum(x, most, scratch, n);
  // Two roundings apart: x - max is exact near the maximum, where log sum matters most.
  const T log_total = static_cast<T>(std::log(total));
  kernels.shift_scale(x, most, T(1), y, n);
  kernels.shift_scale(y, log_total, T(1), y, n);
}

}  // namespace

void softmax(const Tensor& x, int axis, const Tensor& y, bool logarithm) {
  expect_axis("softmax", axis, x);
  expect_type("the result of softmax", x.dtype, y);
  expect_dims("the result of softmax", x.dims, y);
  Dims dims = x.dims;
  const int64_t n = dims[axis], x_stride = x.strides[axis], y_stride = y.strides[axis];
  if (n == 0) return;
  dims[axis] = 1;
  const StridedLoop loop = strided_loop(dims, {&y.strides, &x.strides});
  with_float("softmax", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const TypedKernels<T>& kernels = typed_kernels<T>();
    const int64_t share = 2 * whole_lines<T>(n);
    T* memory = workspace<T>(Slot::softmax, thread_count() * share);
    parallel_for(loop.count, static_cast<double>(loop.count) * n * 4, [&](int64_t begin, int64_t end, int thread) {
      T* line = memory + thread * share;
      T* scratch = line + whole_lines<T>(n);
      Odometer<2> at(loop, loop.axes, begin);
      for (int64_t e = begin; e < end; ++e, at.next()) {
        const T* from = x.as<const T>() + at.offset[1];
        T* to = y.as<T>() + at.offset[0];
        if (x_stride == 1 && y_stride == 1) {
          softmax_line(kernels, from, n, logarithm, scratch, to);
          continue;
        }
        for (int64_t i = 0; i < n; ++i) line[i] = from[i * x_stride];
        softmax_line(kernels, line, n, logarithm, scratch, line);
        for (int64_t i = 0; i < n; ++i) to[i * y_stride] = line[i];
      }
    });
  });
}

}  // namespace palimpsest::cpu
