// Softmax and its logarithm along an axis, shifted by the maximum.
#include "backend/checks.h"
#include "cuda/along_axis.h"
#include "cuda/functions.h"
#include "cuda/launch.h"
#include "cuda/strided.h"
#include "cuda/sums.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

// A line by `lanes` neighbouring threads: a warp where the line runs in memory, one thread where lines lie side by
// side. y = e^{x - max} / sum, or x - max - log sum.
template <class T, int lanes>
__global__ void softmax_kernel(Strided<2> loop, int64_t n, int64_t x_stride, int64_t y_stride, bool logarithm,
                               const T* x, T* y) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  for (int64_t item = first_item(); item / lanes < loop.count; item += item_stride()) {
    const auto at = loop.offsets(item / lanes);
    const T* from = x + at.of[1];
    T* to = y + at.of[0];
    T most = from[0];
    for (int64_t i = lane; i < n; i += lanes) {
      const T value = from[i * x_stride];
      most = value > most || value != value ? value : most;
    }
    if constexpr (lanes > 1) {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(whole_warp, most, distance);
        most = other > most || other != other ? other : most;
      }
    }
    double sum = 0;
    for (int64_t i = lane; i < n; i += lanes) sum += static_cast<double>(exp_of(from[i * x_stride] - most));
    if constexpr (lanes > 1) sum = warp_sum(sum);
    const T scale = static_cast<T>(1 / sum), log_total = static_cast<T>(::log(sum));
    for (int64_t i = lane; i < n; i += lanes) {
      const T shifted = from[i * x_stride] - most;
      // x - max is exact near the maximum, where log sum matters most.
      to[i * y_stride] = logarithm ? shifted - log_total : exp_of(shifted) * scale;
    }
  }
}

}  // namespace

void softmax(Device& device, const Tensor& x, int axis, const Tensor& y, bool logarithm) {
  expect_axis("softmax", axis, x);
  expect_type("the result of softmax", x.dtype, y);
  expect_dims("the result of softmax", x.dims, y);
  Dims dims = x.dims;
  const size_t along = static_cast<size_t>(axis);
  const int64_t n = dims[along], x_stride = x.strides[along], y_stride = y.strides[along];
  if (n == 0) return;
  dims[along] = 1;
  const Strided<2> loop = strided<2>(dims, {&y.strides, &x.strides});
  const bool by_warp = x_stride == 1 && n >= 4;
  with_float("softmax", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "softmax", by_warp ? softmax_kernel<T, 32> : softmax_kernel<T, 1>,
           dim3(grid_of(loop.count * (by_warp ? 32 : 1), threads_a_block, most_blocks)), dim3(threads_a_block), 0, loop,
           n, x_stride, y_stride, logarithm, x.as<const T>(), y.as<T>());
  });
}

}  // namespace palimpsest::cuda
