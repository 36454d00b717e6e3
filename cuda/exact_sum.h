// Sums of float64 pairs on the device: the arithmetic of core/exact_sum.h, operation by operation.
#pragma once

#include <cuda_runtime.h>

namespace palimpsest::cuda {

struct DoublePair {
  double high = 0, low = 0;
};

// pair + x, the high part rounded to nearest (Knuth's two-sum, then Dekker's quick one). Exact while all terms are
// multiples of one unit and the sum stays below 2^100 units.
__device__ inline DoublePair add(DoublePair pair, double x) {
  const double sum = pair.high + x, of_x = sum - pair.high;
  const double low = pair.low + ((pair.high - (sum - of_x)) + (x - of_x));
  const double high = sum + low;
  return {high, low - (high - sum)};
}

// A channel's mean response as it enters the sums: in float32 rounded to it and to a multiple of 2^-56, which only
// changes means below 2^-33.
__device__ inline double channel_mean(double total, double positions, double) { return total / positions; }
__device__ inline double channel_mean(double total, double positions, float) {
  constexpr double unit = 0x1.8p-4;  // 1.5 * 2^52 units of 2^-56
  const double mean = static_cast<float>(total / positions);
  return mean < 0x1p-33 ? (mean + unit) - unit : mean;
}

// The pair as three values of a type.
__device__ inline void split(DoublePair pair, double (&parts)[3]) {
  parts[0] = pair.high, parts[1] = pair.low, parts[2] = 0;
}
__device__ inline void split(DoublePair pair, float (&parts)[3]) {
  parts[0] = static_cast<float>(pair.high);
  const DoublePair rest = add({pair.high - parts[0], 0}, pair.low);
  parts[1] = static_cast<float>(rest.high);
  parts[2] = static_cast<float>((rest.high - parts[1]) + rest.low);
}

}  // namespace palimpsest::cuda
