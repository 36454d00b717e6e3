// A convolution as a sum over taps: what the forward pass and each phase of the input gradient have in common.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace palimpsest::cpu {

// A kernel position: where it reads relative to a grid position, and which weight it is (kh KW + kw).
struct Tap {
  int64_t dh, dw, weight;
};

// Taps that read neighbouring positions of x in turn: `taps` positions from (dh, dw) on, one run of memory.
struct TapRun {
  int64_t dh, dw, taps;
};

// y[n, i, j, :] = sum over taps of x[n, i step_h + dh, j step_w + dw, :] w[tap]; positions outside x are zero.
struct TapConv {
  int64_t n, h, w, x_channels;  // x and the elements between its positions
  int64_t grid_h, grid_w;       // positions that are computed
  int64_t step_h, step_w;
  int64_t y_image, y_row, y_column;  // elements between images, rows and columns of the grid in y
  int64_t in, out;                   // channels of this group
  std::vector<Tap> taps = {};
  std::vector<TapRun> runs = {};

  int64_t positions() const { return n * grid_h * grid_w; }
  int64_t depth() const { return static_cast<int64_t>(taps.size()) * in; }  // of the product: (tap, channel)
};

// Fills `runs` from `taps`.
void find_runs(TapConv& conv);

// Grid columns [first, last) at which an offset reads inside a row of width w.
struct Columns {
  int64_t first, last;
};
Columns inside_columns(int64_t grid_w, int64_t step, int64_t offset, int64_t w);

// A place in the grid, counted up in the order of positions.
struct GridPosition {
  int64_t n, i, j;

  GridPosition(const TapConv& conv, int64_t position)
      : n(position / (conv.grid_w * conv.grid_h)), i(position / conv.grid_w % conv.grid_h), j(position % conv.grid_w) {}

  // Forward by count, which stays within the row or ends it.
  void advance(const TapConv& conv, int64_t count) {
    j += count;
    if (j < conv.grid_w) return;
    j = 0;
    if (++i < conv.grid_h) return;
    i = 0;
    ++n;
  }
};

TapConv forward_taps(const ConvShape& shape);

// The input gradient is one TapConv for every phase (h mod stride_h, w mod stride_w); y_offset is where its grid
// starts.
struct Phase {
  TapConv conv;
  int64_t y_offset;
};
std::vector<Phase> input_gradient_phases(const ConvShape& shape);

inline bool is_depthwise(const ConvShape& shape) {
  return shape.groups > 1 && shape.groups == shape.c && shape.groups == shape.o;
}

}  // namespace palimpsest::cpu
