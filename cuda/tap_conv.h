// A convolution as a sum over taps: what the forward pass and each phase of the input gradient have in common.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "cuda/divisor.h"

namespace palimpsest::cuda {

// y[n, i, j, :] = sum over taps (a, b) of x[n, i step_h + first_h + a apart_h, j step_w + first_w + b apart_w, :]
// w[tap]; positions outside x are zero. Tap (a, b) is kernel position (weight_h + a weight_apart_h, ...).
struct TapConv {
  int n, h, w, x_channels;
  int grid_h, grid_w;  // positions that are computed
  int step_h, step_w, first_h, first_w, apart_h, apart_w;
  int taps_h, taps_w;
  int weight_h, weight_w, weight_apart_h, weight_apart_w;
  int in, out;                                // channels of a group
  int64_t y_first, y_image, y_row, y_column;  // elements to the grid, and between its images, rows and columns in y
  int64_t packed;                             // rows of packed weights of the phases before
  Divisor by_in, by_taps_w, by_image, by_row;

  __host__ __device__ int positions() const { return n * grid_h * grid_w; }
  __host__ __device__ int taps() const { return taps_h * taps_w; }
  __host__ __device__ int depth() const { return taps() * in; }
  __host__ __device__ int64_t x_image() const { return static_cast<int64_t>(h) * w * x_channels; }
};

// A place in the grid.
struct GridPlace {
  int n, i, j;
};
__device__ __forceinline__ GridPlace grid_place(const TapConv& conv, int position) {
  const int n = conv.by_image.divide(position), rest = position - n * conv.grid_h * conv.grid_w;
  const int i = conv.by_row.divide(rest);
  return {n, i, rest - i * conv.grid_w};
}

// The channel and the place in the window of step k of a sum over (tap, channel).
struct TapPlace {
  int h, w, channel;
};
__device__ __forceinline__ TapPlace tap_place(const TapConv& conv, int k) {
  const int tap = conv.by_in.divide(k), a = conv.by_taps_w.divide(tap);
  return {a * conv.apart_h, (tap - a * conv.taps_w) * conv.apart_w, k - tap * conv.in};
}

// Throws ERR_UNSUPPORTED for what kernels cannot count in 32 bits.
TapConv forward_taps(const ConvShape& shape);
// One for every phase (h mod stride_h, w mod stride_w) of x.
std::vector<TapConv> input_gradient_phases(const ConvShape& shape);

constexpr int most_phases = 16;  // that one kernel takes
constexpr int64_t most_groups = 65535;

inline bool is_depthwise(const ConvShape& s) { return s.groups > 1 && s.groups == s.c && s.groups == s.o; }

}  // namespace palimpsest::cuda
