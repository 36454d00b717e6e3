// Mean and reciprocal standard deviation of each channel: two passes, float64 sums in an order of the shape only.
#include "cpu/statistics.h"

#include <algorithm>
#include <cmath>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

// total[c] = sum over rows of add(first row, rows, sums)
template <class Add>
void sum_channels(int64_t rows, int64_t channels, double* partial, double* total, Add add) {
  const int64_t parts =
      std::clamp<int64_t>(rows * channels / 16384, 1, std::min<int64_t>(64, std::max<int64_t>(rows, 1)));
  parallel_for(parts, static_cast<double>(rows) * channels / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t part = begin; part < end; ++part) {
      double* sums = partial + part * channels;
      std::fill_n(sums, channels, 0.0);
      const int64_t first = rows * part / parts;
      add(first, rows * (part + 1) / parts - first, sums);
    }
  });
  std::fill_n(total, channels, 0.0);
  for (int64_t part = 0; part < parts; ++part) {
    for (int64_t c = 0; c < channels; ++c) total[c] += partial[part * channels + c];
  }
}

}  // namespace

void batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) {
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
    const TypedKernels<T>& kernels = typed_kernels<T>();
    double* memory = workspace<double>(Slot::batch_norm, 66 * channels);
    double *center = memory, *total = memory + channels, *partial = memory + 2 * channels;
    const T* from = x.as<const T>();
    sum_channels(rows, channels, partial, center, [&](int64_t first, int64_t n, double* sums) {
      kernels.add_rows(from + first * channels, n, channels, channels, sums);
    });
    for (int64_t c = 0; c < channels; ++c) center[c] /= static_cast<double>(rows);
    sum_channels(rows, channels, partial, total, [&](int64_t first, int64_t n, double* sums) {
      kernels.add_rows_squared(from + first * channels, n, channels, channels, center, sums);
    });
    for (int64_t c = 0; c < channels; ++c) {
      mean.as<T>()[c] = static_cast<T>(center[c]);
      rstd.as<T>()[c] = static_cast<T>(1 / std::sqrt(total[c] / static_cast<double>(rows) + epsilon));
    }
  });
}

}  // namespace palimpsest::cpu
