// Mean positive response of each channel, example by example, then summed by class in the order of the rows.
#include "cuda/channel_statistics.h"

#include "backend/checks.h"
#include "cuda/exact_sum.h"
#include "cuda/launch.h"
#include "cuda/shared.h"

namespace palimpsest::cuda {

namespace {

constexpr int wide = 32;   // channels of a block: whole cache lines of a position
constexpr int deep = 8;    // positions that a block sums side by side
constexpr int unroll = 4;  // loads in flight a thread

struct PartialSums {
  double at[deep][wide];
};

// means[n, c] = mean over the positions p of max(x[n, p, c], 0); a block for each example and `wide` channels
template <class T>
__global__ void __launch_bounds__(wide* deep)
    response_means(const T* x, int64_t channels, int64_t positions, double* means) {
  const int64_t n = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * wide + threadIdx.x;
  const int lane = static_cast<int>(threadIdx.x), row = static_cast<int>(threadIdx.y);
  PartialSums& partial = block_shared<PartialSums>();
  double sums[unroll] = {};
  if (c < channels) {
    const T* from = x + n * positions * channels + c;
    int64_t p = row;
    for (; p + (unroll - 1) * deep < positions; p += unroll * deep) {
      for (int u = 0; u < unroll; ++u) {
        const double v = static_cast<double>(from[(p + u * deep) * channels]);
        sums[u] += v < 0 ? 0 : v;
      }
    }
    for (; p < positions; p += deep) {
      const double v = static_cast<double>(from[p * channels]);
      sums[0] += v < 0 ? 0 : v;
    }
  }
  partial.at[row][lane] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  __syncthreads();
  if (row != 0 || c >= channels) return;
  double total = 0;
  for (int r = 0; r < deep; ++r) total += partial.at[r][lane];
  means[n * channels + c] = channel_mean(total, static_cast<double>(positions), T(0));
}

// sums[part, k, c] over the rows of class k; a thread for each k and c
template <class T>
__global__ void sum_by_class(const double* means, const T* labels, int64_t rows, int64_t classes, int64_t channels,
                             T* sums) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, k = blockIdx.y;
  if (c >= channels) return;
  DoublePair pair;
  for (int64_t n = 0; n < rows; ++n) {
    if (labels[n * classes + k] != T(0)) pair = add(pair, means[n * channels + c]);
  }
  T parts[3];
  split(pair, parts);
  for (int64_t part = 0; part < 3; ++part) sums[(part * classes + k) * channels + c] = parts[part];
}

}  // namespace

void channel_statistics(Device& device, const Tensor& x, const Tensor& labels, const Tensor& sums) {
  const int64_t rows = x.dims[0], channels = x.dims[1], positions = x.dims[2] * x.dims[3], classes = labels.dims[1];
  checks::with_float("channel_statistics", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    double* means = device.workspace<double>(Slot::channel_means, rows * channels);
    // A grid has at most 65535 blocks along y: larger batches take several launches.
    constexpr int64_t most = 65535;
    for (int64_t first = 0; first < rows; first += most) {
      const int64_t count = rows - first < most ? rows - first : most;
      launch(device, "channel_statistics", response_means<T>,
             dim3(grid_of(channels, wide), static_cast<unsigned>(count)), dim3(wide, deep), 0,
             x.as<const T>() + first * positions * channels, channels, positions, means + first * channels);
    }
    if (classes > most) throw Error(ErrorCode::unsupported, "expected at most 65535 classes for channel_statistics");
    launch(device, "channel_statistics", sum_by_class<T>, dim3(grid_of(channels, 128), static_cast<unsigned>(classes)),
           dim3(128), 0, means, labels.as<const T>(), rows, classes, channels, sums.as<T>());
  });
}

}  // namespace palimpsest::cuda
