// Depthwise convolution (groups = channels) and its adjoints: neighbouring threads take neighbouring channels.
#include "cuda/depthwise.h"

#include <algorithm>

#include "core/error.h"
#include "cuda/launch.h"
#include "cuda/patches.h"
#include "cuda/tiling.h"

namespace palimpsest::cuda {
namespace {

constexpr int depthwise_threads = 256;

// How a block's threads stand: `lanes` packs of channels side by side, the rest are positions.
int lanes_of(int64_t packs) { return packs >= 32 ? 32 : static_cast<int>(std::max<int64_t>(1, packs)); }

// [C, taps] -> [taps, C]
template <class T>
__global__ void weights_by_tap_kernel(int channels, int taps, const T* w, T* by_tap) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (at < channels * taps) by_tap[at] = w[static_cast<int64_t>(at % channels) * taps + at / channels];
}

// y[n, i, j, c] = sum over taps of x[.., c] w[tap, c]; a thread has Count channels of a position.
template <class T, int Count>
__global__ void depthwise_kernel(const TapConv conv, int kernel_w, int lanes, const T* x, const T* w, T* y) {
  using Values = Pack<T, Count>;
  const int rows = depthwise_threads / lanes, thread = static_cast<int>(threadIdx.x);
  const int64_t wanted = static_cast<int64_t>(blockIdx.x) * rows + thread / lanes;
  const int channel = (static_cast<int>(blockIdx.y) * lanes + thread % lanes) * Count;
  if (thread / lanes >= rows || wanted >= conv.positions() || channel >= conv.x_channels) return;
  const GridPlace at = grid_place(conv, static_cast<int>(wanted));
  const T* image = x + at.n * conv.x_image() + channel;
  Values sum{};
  for (int a = 0; a < conv.taps_h; ++a) {
    const int h = at.i * conv.step_h + conv.first_h + a * conv.apart_h;
    for (int b = 0; b < conv.taps_w; ++b) {
      const int column = at.j * conv.step_w + conv.first_w + b * conv.apart_w;
      if (!is_inside(conv, h, column)) continue;
      const int tap = (conv.weight_h + a * conv.weight_apart_h) * kernel_w + conv.weight_w + b * conv.weight_apart_w;
      const Values value = *reinterpret_cast<const Values*>(image + (h * conv.w + column) * conv.x_channels);
      const Values weight = *reinterpret_cast<const Values*>(w + static_cast<int64_t>(tap) * conv.x_channels + channel);
#pragma unroll
      for (int e = 0; e < Count; ++e) sum.values[e] += value.values[e] * weight.values[e];
    }
  }
  *reinterpret_cast<Values*>(y + conv.y_first + at.n * conv.y_image + at.i * conv.y_row + at.j * conv.y_column +
                             channel) = sum;
}

template <class T>
void run_depthwise(Device& device, const ConvShape& s, const TapConv& conv, const T* x, const T* by_tap, T* y) {
  constexpr int count = Pack<T>::count;
  const bool aligned = is_aligned<T>(x, {s.c}) && is_aligned<T>(y, {s.c});
  const int64_t packs = aligned ? s.c / count : s.c;
  const int lanes = lanes_of(packs);
  const dim3 grid(grid_of(conv.positions(), depthwise_threads / lanes), grid_of(packs, lanes));
  const auto run = [&](auto kernel) {
    launch(device, "depthwise convolution", kernel, grid, dim3(depthwise_threads), 0, conv, static_cast<int>(s.kw),
           lanes, x, by_tap, y);
  };
  if (aligned) run(depthwise_kernel<T, count>);
  else run(depthwise_kernel<T, 1>);
}

template <class T>
const T* weights_by_tap(Device& device, const ConvShape& s, const T* w) {
  const int64_t taps = s.kh * s.kw;
  T* by_tap = device.workspace<T>(Slot::depthwise, taps * s.c);
  const int channels = to_count(s.c, "channels");
  launch(device, "turning depthwise weights", weights_by_tap_kernel<T>,
         dim3(grid_of(to_count(taps * s.c, "weights"), depthwise_threads)), dim3(depthwise_threads), 0, channels,
         static_cast<int>(taps), w, by_tap);
  return by_tap;
}

// What a part of the sum over `unit`s takes: examples with squares, else positions.
struct DepthwiseSums {
  TapConv conv;
  int lanes, parts, units;
  bool squares;
};

// sums [parts][taps][C]: one block some channels of a tap of a part; its rows of threads share the positions and are
// added up in order.
template <class T>
__global__ void depthwise_sums_kernel(const DepthwiseSums s, const T* x, const T* y_bar, T* sums) {
  struct Rows {
    T values[depthwise_threads];
  };
  Rows& shared = block_shared<Rows>();
  const TapConv& conv = s.conv;
  const int rows = depthwise_threads / s.lanes, thread = static_cast<int>(threadIdx.x);
  const int row = thread / s.lanes, channel = static_cast<int>(blockIdx.y) * s.lanes + thread % s.lanes;
  const int tap = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.z);
  const int offset_h = conv.first_h + tap / conv.taps_w * conv.apart_h;
  const int offset_w = conv.first_w + tap % conv.taps_w * conv.apart_w;
  const auto border = [&](int p) { return static_cast<int>(static_cast<int64_t>(s.units) * p / s.parts); };
  const int image = conv.grid_h * conv.grid_w;
  const bool active = row < rows && channel < conv.x_channels;
  T total = 0;
  const int begin = border(part), end = border(part + 1), step = s.squares ? 1 : end - begin;
  for (int unit = begin; unit < end; unit += step) {
    const int first = s.squares ? unit * image : unit, last = s.squares ? first + image : end;
    T sum = 0;
    for (int p = first + row; active && p < last; p += rows) {
      const GridPlace at = grid_place(conv, p);
      const int h = at.i * conv.step_h + offset_h, w = at.j * conv.step_w + offset_w;
      if (!is_inside(conv, h, w)) continue;
      sum += x[at.n * conv.x_image() + (h * conv.w + w) * conv.x_channels + channel] *
             y_bar[static_cast<int64_t>(p) * conv.x_channels + channel];
    }
    shared.values[thread] = sum;
    __syncthreads();
    if (row == 0) {
      for (int r = 1; r < rows; ++r) sum += shared.values[r * s.lanes + thread];
      total += s.squares ? sum * sum : sum;
    }
    __syncthreads();
  }
  if (row == 0 && active) {
    sums[(static_cast<int64_t>(part) * gridDim.x + tap) * conv.x_channels + channel] = total;
  }
}

// [parts][taps][C] -> [C][taps], the parts added in order.
template <class T>
__global__ void add_depthwise_parts_kernel(int parts, int channels, int taps, const T* sums, T* w_bar) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), size = channels * taps;
  if (at >= size) return;
  T sum = sums[at];
  for (int part = 1; part < parts; ++part) sum += sums[static_cast<int64_t>(part) * size + at];
  w_bar[static_cast<int64_t>(at % channels) * taps + at / channels] = sum;
}

}  // namespace

template <class T>
void depthwise(Device& device, const ConvShape& s, const T* x, const T* w, T* y) {
  const TapConv conv = forward_taps(s);
  run_depthwise(device, s, conv, x, weights_by_tap(device, s, w), y);
}

template <class T>
void depthwise_input_gradient(Device& device, const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  const std::vector<TapConv> phases = input_gradient_phases(s);
  const T* by_tap = weights_by_tap(device, s, w);
  for (const TapConv& phase : phases) run_depthwise(device, s, phase, y_bar, by_tap, x_bar);
}

template <class T>
void depthwise_weight_gradient(Device& device, const ConvShape& s, bool squares, const T* x, const T* y_bar, T* w_bar) {
  const TapConv conv = forward_taps(s);
  const int lanes = lanes_of(s.c), taps = conv.taps();
  const int64_t blocks = grid_of(s.c, lanes) * static_cast<int64_t>(taps);
  const int64_t units = squares ? s.n : conv.positions();
  const int64_t wanted = 8 * static_cast<int64_t>(device.properties().multiprocessors) / std::max<int64_t>(1, blocks);
  const int64_t parts = std::clamp<int64_t>(std::min(wanted, units / (squares ? 1 : 256)), 1, 256);
  const DepthwiseSums sums{conv, lanes, static_cast<int>(parts), static_cast<int>(units), squares};
  T* partial = device.workspace<T>(Slot::depthwise, parts * taps * s.c);
  // Taps first: a kernel has more than the 65535 blocks of the other dimensions sooner than a network so many channels.
  const dim3 grid(static_cast<unsigned>(to_count(taps, "taps")), grid_of(s.c, lanes), static_cast<unsigned>(parts));
  launch(device, "depthwise weight gradient", depthwise_sums_kernel<T>, grid, dim3(depthwise_threads), 0, sums, x,
         y_bar, partial);
  launch(device, "adding the parts of a depthwise weight gradient", add_depthwise_parts_kernel<T>,
         dim3(grid_of(to_count(taps * s.c, "weights"), depthwise_threads)), dim3(depthwise_threads), 0,
         static_cast<int>(parts), static_cast<int>(s.c), taps, partial, w_bar);
}

template void depthwise<float>(Device&, const ConvShape&, const float*, const float*, float*);
template void depthwise<double>(Device&, const ConvShape&, const double*, const double*, double*);
template void depthwise_input_gradient<float>(Device&, const ConvShape&, const float*, const float*, float*);
template void depthwise_input_gradient<double>(Device&, const ConvShape&, const double*, const double*, double*);
template void depthwise_weight_gradient<float>(Device&, const ConvShape&, bool, const float*, const float*, float*);
template void depthwise_weight_gradient<double>(Device&, const ConvShape&, bool, const double*, const double*, double*);

}  // namespace palimpsest::cuda
