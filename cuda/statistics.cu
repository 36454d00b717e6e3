// Mean and reciprocal standard deviation of each channel: two passes, float64 sums in an order of the shape only.
#include "cuda/statistics.h"

#include "backend/checks.h"
#include "cuda/sums.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

struct Value {
  __device__ double operator()(double x, int64_t) const { return x; }
};
struct SquaredDistance {
  const double* center;
  __device__ double operator()(double x, int64_t channel) const {
    const double distance = x - center[channel];
    return distance * distance;
  }
};

__device__ __forceinline__ double sum_parts(const double* partial, int64_t parts, int64_t channels, int64_t c) {
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += partial[part * channels + c];
  return total;
}

template <class T>
__global__ void mean_kernel(int64_t channels, int64_t parts, double rows, const double* partial, double* center,
                            T* mean) {
  for (int64_t c = first_item(); c < channels; c += item_stride()) {
    center[c] = sum_parts(partial, parts, channels, c) / rows;
    mean[c] = static_cast<T>(center[c]);
  }
}

template <class T>
__global__ void rstd_kernel(int64_t channels, int64_t parts, double rows, double epsilon, const double* partial,
                            T* rstd) {
  for (int64_t c = first_item(); c < channels; c += item_stride()) {
    rstd[c] = static_cast<T>(1 / ::sqrt(sum_parts(partial, parts, channels, c) / rows + epsilon));
  }
}

}  // namespace

void batch_norm_statistics(Device& device, const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) {
  expect_type("the mean of batch_norm_statistics", x.dtype, mean);
  expect_type("the deviation of batch_norm_statistics", x.dtype, rstd);
  const int64_t channels = element_count(mean.dims), count = element_count(x.dims);
  if (channels == 0) return;
  if (x.dims.size() < 2 || x.dims[1] != channels || element_count(rstd.dims) != channels) {
    throw Error(ErrorCode::shape, "expected a mean and a deviation a channel of " + to_string(x.dims) + ", got " +
                                      to_string(mean.dims) + " and " + to_string(rstd.dims));
  }
  const int64_t rows = count / channels;
  with_float("batch_norm_statistics", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Dims channel{1}, row{channels};
    const Strided<2> kept = strided<2>({channels}, {&channel, &channel});
    const Strided<1> summed = strided<1>({rows}, {&row});
    const int64_t parts = rows == 0 ? 0 : column_parts(channels, rows);
    double* center = device.workspace<double>(Slot::batch_norm, (parts + 1) * channels);
    double* partial = center + channels;
    const dim3 grid(grid_of(channels, threads_a_block, most_blocks)), block(threads_a_block);
    const double of_rows = static_cast<double>(rows);
    if (parts > 0) column_sums(device, kept, summed, parts, Value(), x.as<const T>(), partial);
    launch(device, "the mean of a batch", mean_kernel<T>, grid, block, 0, channels, parts, of_rows, partial, center,
           mean.as<T>());
    if (parts > 0) column_sums(device, kept, summed, parts, SquaredDistance{center}, x.as<const T>(), partial);
    launch(device, "the deviation of a batch", rstd_kernel<T>, grid, block, 0, channels, parts, of_rows, epsilon,
           partial, rstd.as<T>());
  });
}

}  // namespace palimpsest::cuda
