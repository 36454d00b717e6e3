// Taps of a convolution and of the phases of its input gradient.
#include "cpu/tap_conv.h"

#include <algorithm>

namespace palimpsest::cpu {

void find_runs(TapConv& conv) {
  const bool dense = conv.in == conv.x_channels;  // neighbouring positions' channels lie side by side
  conv.runs.clear();
  for (const Tap& tap : conv.taps) {
    TapRun* last = conv.runs.empty() ? nullptr : &conv.runs.back();
    if (dense && last && tap.dh == last->dh && tap.dw == last->dw + last->taps) {
      ++last->taps;
    } else {
      conv.runs.push_back({tap.dh, tap.dw, 1});
    }
  }
}

Columns inside_columns(int64_t grid_w, int64_t step, int64_t offset, int64_t w) {
  const int64_t first = offset >= 0 ? 0 : std::min(grid_w, (-offset + step - 1) / step);
  const int64_t last = w <= offset ? 0 : std::min(grid_w, (w - offset + step - 1) / step);
  return {first, std::max(first, last)};
}

TapConv forward_taps(const ConvShape& s) {
  TapConv conv{.n = s.n,
               .h = s.h,
               .w = s.w,
               .x_channels = s.c,
               .grid_h = s.oh,
               .grid_w = s.ow,
               .step_h = s.stride_h,
               .step_w = s.stride_w,
               .y_image = s.oh * s.ow * s.o,
               .y_row = s.ow * s.o,
               .y_column = s.o,
               .in = s.c / s.groups,
               .out = s.o / s.groups};
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      conv.taps.push_back({kh * s.dilation_h - s.pad_top, kw * s.dilation_w - s.pad_left, kh * s.kw + kw});
    }
  }
  find_runs(conv);
  return conv;
}

namespace {

// One axis of a phase: which kernel positions k reach x at phase + stride i from y at i + offset, offsets ascending.
struct AxisTap {
  int64_t k, offset;
};

std::vector<AxisTap> axis_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  std::vector<AxisTap> taps;
  for (int64_t k = kernel - 1; k >= 0; --k) {
    const int64_t distance = phase + pad - k * dilation;
    if (distance % stride == 0) taps.push_back({k, distance / stride});
  }
  return taps;
}

}  // namespace

std::vector<Phase> input_gradient_phases(const ConvShape& s) {
  std::vector<Phase> phases;
  for (int64_t ph = 0; ph < s.stride_h && ph < s.h; ++ph) {
    for (int64_t pw = 0; pw < s.stride_w && pw < s.w; ++pw) {
      Phase phase{.conv = {.n = s.n,
                           .h = s.oh,
                           .w = s.ow,
                           .x_channels = s.o,
                           .grid_h = (s.h - ph + s.stride_h - 1) / s.stride_h,
                           .grid_w = (s.w - pw + s.stride_w - 1) / s.stride_w,
                           .step_h = 1,
                           .step_w = 1,
                           .y_image = s.h * s.w * s.c,
                           .y_row = s.stride_h * s.w * s.c,
                           .y_column = s.stride_w * s.c,
                           .in = s.o / s.groups,
                           .out = s.c / s.groups},
                  .y_offset = (ph * s.w + pw) * s.c};
      for (const AxisTap& a : axis_taps(ph, s.kh, s.stride_h, s.dilation_h, s.pad_top)) {
        for (const AxisTap& b : axis_taps(pw, s.kw, s.stride_w, s.dilation_w, s.pad_left)) {
          phase.conv.taps.push_back({a.offset, b.offset, a.k * s.kw + b.k});
        }
      }
      find_runs(phase.conv);
      phases.push_back(std::move(phase));
    }
  }
  return phases;
}

}  // namespace palimpsest::cpu
