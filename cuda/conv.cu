// Convolution and input gradient as implicit products of patches(x) and weights that are packed by (tap, channel).
#include "cuda/conv.h"

#include <algorithm>

#include "core/error.h"
#include "cuda/cudnn.h"
#include "cuda/depthwise.h"
#include "cuda/launch.h"
#include "cuda/patches.h"
#include "cuda/pointwise.h"
#include "cuda/tiling.h"

namespace palimpsest::cuda {
namespace {

template <class T>
struct TapConvs {
  TapConv phases[most_phases];
  const T* x;
  const T* w;  // packed: [phase][group][tap, in][columns]
  T* y;
  int columns;  // out, in whole packs
  int tiles_m, tiles_n;
  bool aligned_x, aligned_y;
};

// What lies apart in w: elements between outputs and inputs of a group.
struct WeightStrides {
  int64_t group, in, out;
};

// w -> [phase][group][tap, in][columns], zeros in the columns beyond `out`. A thread per (in, column) of a phase.
template <class T>
__global__ void pack_weights_kernel(const TapConvs<T> convs, WeightStrides strides, int kernel_w, const T* w,
                                    T* packed) {
  const TapConv& conv = convs.phases[blockIdx.z];
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int in = static_cast<int>(at / convs.columns), column = static_cast<int>(at % convs.columns);
  if (in >= conv.in) return;
  const int64_t groups = gridDim.y, group = blockIdx.y;
  T* to = packed + (conv.packed * groups + group * conv.depth() + in) * convs.columns + column;
  const T* from = w + group * strides.group + in * strides.in + column * strides.out;
  for (int tap = 0; tap < conv.taps(); ++tap) {
    const int a = tap / conv.taps_w, b = tap % conv.taps_w;
    const int position = (conv.weight_h + a * conv.weight_apart_h) * kernel_w + conv.weight_w + b * conv.weight_apart_w;
    to[static_cast<int64_t>(tap) * conv.in * convs.columns] = column < conv.out ? from[position] : T(0);
  }
}

// One block a tile (positions, out) of a phase's grid: y = patches(x) w.
template <class Tile>
__global__ __launch_bounds__(Tile::threads, Tile::blocks) void conv_kernel(const TapConvs<typename Tile::Value> convs) {
  using T = typename Tile::Value;
  const TapConv& conv = convs.phases[blockIdx.z];
  const int64_t group = blockIdx.y, groups = gridDim.y;
  const TilePlace place = tile_place(static_cast<int>(blockIdx.x), convs.tiles_m, convs.tiles_n);
  const int first_m = place.m * Tile::m, first_n = place.n * Tile::n, positions = conv.positions();
  if (first_m >= positions) return;  // the grid is the largest phase's
  const PatchRows<T> x{conv, convs.x + group * conv.in, convs.aligned_x};
  const MatrixSource<T, false> w{convs.w + (conv.packed * groups + group * conv.depth()) * convs.columns, convs.columns,
                                 convs.columns, conv.depth(), true};
  const Tile tile;
  T sum[Tile::sums] = {};
  multiply_steps<Tile, false>(tile, x, first_m, w, first_n, 0, (conv.depth() + Tile::k - 1) / Tile::k, sum, [](int) {});
  T* y = convs.y + conv.y_first + group * conv.out;
  tile.each([&](int row, int column, int at) {
    const int position = first_m + row, n = first_n + column;
    if (position >= positions) return;
    const GridPlace to = grid_place(conv, position);
    T values[Tile::run];
#pragma unroll
    for (int e = 0; e < Tile::run; ++e) values[e] = sum[at + e];
    store_run<Tile::run>(y + to.n * conv.y_image + to.i * conv.y_row + to.j * conv.y_column + n, values, conv.out - n,
                         convs.aligned_y);
  });
}

// At most most_phases phases of a convolution.
template <class T>
void run_phases(Device& device, const ConvShape& s, const TapConv* phases, int count, const WeightStrides& strides,
                const T* x, const T* w, T* packed, T* y) {
  TapConvs<T> convs{};
  int64_t positions = 0, depth = 0;
  for (int i = 0; i < count; ++i) {
    convs.phases[i] = phases[i];
    positions = std::max<int64_t>(positions, convs.phases[i].positions());
    depth = std::max<int64_t>(depth, phases[i].depth());
  }
  const TapConv& one = phases[0];
  constexpr int64_t pack = Pack<T>::count;
  convs.x = x, convs.w = packed, convs.y = y;
  convs.columns = static_cast<int>((one.out + pack - 1) / pack * pack);
  convs.aligned_x = is_aligned<T>(x, {one.in, one.x_channels});
  convs.aligned_y = is_aligned<T>(y, {one.out, one.y_column, one.y_row, one.y_image});
  for (int i = 0; i < count; ++i) convs.aligned_y &= is_aligned<T>(y, {phases[i].y_first});
  const auto groups = static_cast<unsigned>(s.groups), layers = static_cast<unsigned>(count);
  constexpr int threads = 128;
  const int64_t elements = static_cast<int64_t>(one.in) * convs.columns;
  launch(device, "packing weights", pack_weights_kernel<T>, dim3(grid_of(elements, threads), groups, layers),
         dim3(threads), 0, convs, strides, static_cast<int>(s.kw), w, packed);
  with_tiles<T>(device, [&](auto tiles) {
    using Large = typename decltype(tiles)::Large;
    using Small = typename decltype(tiles)::Small;
    const Tiling tiling = choose_tiling(size_of_tile<Large>(1), size_of_tile<Small>(1.35),
                                        device.properties().multiprocessors, s.groups * count, positions, one.out,
                                        (depth + Large::k - 1) / Large::k, (depth + Small::k - 1) / Small::k, 1);
    convs.tiles_m = static_cast<int>(tiling.tiles_m), convs.tiles_n = static_cast<int>(tiling.tiles_n);
    const dim3 grid(static_cast<unsigned>(tiling.tiles_m * tiling.tiles_n), groups, layers);
    if (tiling.large) launch(device, "conv", conv_kernel<Large>, grid, dim3(Large::threads), 0, convs);
    else launch(device, "conv", conv_kernel<Small>, grid, dim3(Small::threads), 0, convs);
  });
}

// x and y are the sides that the phases read and write.
template <class T>
void run_taps(Device& device, const ConvShape& s, const std::vector<TapConv>& phases, const WeightStrides& strides,
              const T* x, const T* w, T* y) {
  if (s.groups > most_groups) {
    throw Error(ErrorCode::unsupported, "expected at most " + std::to_string(most_groups) +
                                            " groups of a convolution on a CUDA device, got " +
                                            std::to_string(s.groups));
  }
  constexpr int64_t pack = Pack<T>::count;
  const int64_t columns = (phases[0].out + pack - 1) / pack * pack;
  const int64_t rows = phases.back().packed + phases.back().depth();
  T* packed = device.workspace<T>(Slot::conv_weights, rows * s.groups * columns);
  for (size_t i = 0; i < phases.size(); i += most_phases) {
    run_phases(device, s, phases.data() + i, static_cast<int>(std::min<size_t>(most_phases, phases.size() - i)),
               strides, x, w, packed, y);
  }
}

template <class T>
void typed_conv(Device& device, const ConvShape& s, const T* x, const T* w, T* y) {
  if (s.n * s.o * s.oh * s.ow == 0) return;
  if (is_depthwise(s)) return depthwise(device, s, x, w, y);
  if (pointwise_conv(device, s, x, w, y) || cudnn_conv(device, s, x, w, y)) return;
  const int64_t kernel = s.kh * s.kw, in = s.c / s.groups, out = s.o / s.groups;
  run_taps(device, s, {forward_taps(s)}, {out * in * kernel, kernel, in * kernel}, x, w, y);
}

template <class T>
void typed_input_gradient(Device& device, const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  if (s.n * s.c * s.h * s.w == 0) return;
  if (is_depthwise(s)) return depthwise_input_gradient(device, s, w, y_bar, x_bar);
  if (pointwise_input_gradient(device, s, w, y_bar, x_bar)) return;
  if (cudnn_conv_input_gradient(device, s, w, y_bar, x_bar)) return;
  const int64_t kernel = s.kh * s.kw, in = s.c / s.groups, out = s.o / s.groups;
  // The phases' inputs are w's outputs.
  run_taps(device, s, input_gradient_phases(s), {out * in * kernel, in * kernel, kernel}, y_bar, w, x_bar);
}

}  // namespace

void conv(Device& device, const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  if (x.dtype == DType::f32) typed_conv(device, s, x.as<const float>(), w.as<const float>(), y.as<float>());
  else typed_conv(device, s, x.as<const double>(), w.as<const double>(), y.as<double>());
}

void conv_input_gradient(Device& device, const ConvShape& s, const Tensor& w, const Tensor& y_bar,
                         const Tensor& x_bar) {
  if (w.dtype == DType::f32)
    typed_input_gradient(device, s, w.as<const float>(), y_bar.as<const float>(), x_bar.as<float>());
  else typed_input_gradient(device, s, w.as<const double>(), y_bar.as<const double>(), x_bar.as<double>());
}

}  // namespace palimpsest::cuda
