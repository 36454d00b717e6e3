// A convolution as a sum over taps: what the forward pass and each phase of the input gradient have in common.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace palimpsest::cpu {

// A kernel position: where it reads relative to a grid position, and which weight it is (kh KW + kw).
struct Tap {
  int64_t dh, dw, weight;
};

// y[n, i, j, :] = sum over taps of x[n, i step_h + dh, j step_w + dw, :] w[tap]; positions outside x are zero.
struct TapConv {
  int64_t n, h, w, x_channels;  // x and the elements between its positions
  int64_t grid_h, grid_w;       // positions that are computed
  int64_t step_h, step_w;
  int64_t y_image, y_row, y_column;  // elements between images, rows and columns of the grid in y
  int64_t in, out;                   // channels of this group
  std::vector<Tap> taps;

  int64_t positions() const { return n * grid_h * grid_w; }
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
