// Per-example squares of products over positions: every tile walks the images in place, a tap at a time, and leaves out
// the positions at which the tap reads padding.
#include "cpu/square_sums.h"

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/panels.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// The tiles' rows: the channels of a tap in pieces of nearly the same size.
struct ChannelCut {
  int64_t channels, pieces;

  ChannelCut(int64_t in, int64_t most) : channels(in), pieces(ceil_div(in, most)) {}
  int64_t begin(int64_t piece) const { return channels * piece / pieces; }
};

// Where a tap reads inside of x: grid rows and columns.
struct Inside {
  Columns rows, columns;
};

Inside inside(const TapConv& conv, const Tap& tap) {
  return {inside_columns(conv.grid_h, conv.step_h, tap.dh, conv.h),
          inside_columns(conv.grid_w, conv.step_w, tap.dw, conv.w)};
}

// Examples that are walked together: their parts of x and y_bar stay in the second-level cache.
template <typename T>
int64_t examples_a_block(const TapConv& conv, int64_t y_channels) {
  constexpr int64_t cache_bytes = 1024 * 1024;
  const int64_t elements = conv.h * conv.w * conv.x_channels + conv.grid_h * conv.grid_w * y_channels;
  const int64_t bytes = elements * static_cast<int64_t>(sizeof(T));
  return std::max<int64_t>(1, cache_bytes / std::max<int64_t>(bytes, 1));
}

// A tile's rows against all outputs, for the examples that x and y_bar start at.
template <typename T>
void square_row_tile(const TapConv& conv, const Tap& tap, int64_t channel, int64_t rows, int64_t examples, const T* x,
                     const T* y_bar, int64_t y_channels, T* sums) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const Inside in = inside(conv, tap);
  const int64_t image = conv.grid_h * conv.grid_w * y_channels;
  const PositionGrid grid{
      in.rows.last - in.rows.first,  in.columns.last - in.columns.first, conv.step_h * conv.w * conv.x_channels,
      conv.step_w * conv.x_channels, conv.grid_w * y_channels,           y_channels};
  if (grid.height <= 0 || grid.width <= 0) return;
  const int64_t h = in.rows.first * conv.step_h + tap.dh, w = in.columns.first * conv.step_w + tap.dw;
  const T* left = x + (h * conv.w + w) * conv.x_channels + channel;
  const T* right = y_bar + (in.rows.first * conv.grid_w + in.columns.first) * y_channels;
  for (int64_t column = 0; column < conv.out;) {
    const int64_t columns = conv.out - column >= kernels.tile_columns ? kernels.tile_columns : kernels.lanes;
    T* out[most_tile_rows];
    for (int64_t r = 0; r < rows; ++r) out[r] = sums + r * conv.out + column;
    kernels.square_in_place(rows, examples, grid, left, conv.h * conv.w * conv.x_channels, right + column, image,
                            {out, columns, T(1), T(1)});
    column += columns;
  }
}

}  // namespace

template <typename T>
bool squares_fit_in_place(const TapConv& conv) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  return conv.out % kernels.lanes == 0 && conv.in >= std::min<int64_t>(8, kernels.tile_rows);
}

template <typename T>
void sum_squares_in_place(const TapConv& conv, int64_t parts, const T* x, const T* y_bar, int64_t y_channels, T* sums) {
  const ChannelCut cut(conv.in, typed_kernels<T>().tile_rows);
  const int64_t taps = static_cast<int64_t>(conv.taps.size()), tiles = taps * cut.pieces;
  const int64_t x_image = conv.h * conv.w * conv.x_channels, y_image = conv.grid_h * conv.grid_w * y_channels;
  const int64_t block = examples_a_block<T>(conv, y_channels);
  const double work = 2.0 * static_cast<double>(conv.positions() * conv.depth()) * static_cast<double>(conv.out) / 16;
  parallel_for(parts * tiles, work, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const int64_t part = begin / tiles, first = begin % tiles, last = std::min(tiles, first + end - begin);
      const int64_t from = conv.n * part / parts, until = conv.n * (part + 1) / parts;
      T* to = sums + part * conv.depth() * conv.out;
      const auto row = [&](int64_t tile) { return tile / cut.pieces * conv.in + cut.begin(tile % cut.pieces); };
      std::fill(to + row(first) * conv.out, to + row(last) * conv.out, T(0));
      for (int64_t e = from; e < until; e += block) {
        const int64_t examples = std::min(block, until - e);
        for (int64_t tile = first; tile < last; ++tile) {
          const int64_t piece = tile % cut.pieces, channel = cut.begin(piece);
          square_row_tile(conv, conv.taps[static_cast<size_t>(tile / cut.pieces)], channel,
                          cut.begin(piece + 1) - channel, examples, x + e * x_image, y_bar + e * y_image, y_channels,
                          to + row(tile) * conv.out);
        }
      }
      begin += last - first;
    }
  });
}

template bool squares_fit_in_place<float>(const TapConv&);
template bool squares_fit_in_place<double>(const TapConv&);
template void sum_squares_in_place<float>(const TapConv&, int64_t, const float*, const float*, int64_t, float*);
template void sum_squares_in_place<double>(const TapConv&, int64_t, const double*, const double*, int64_t, double*);

}  // namespace palimpsest::cpu
