// Taps of a convolution and of the phases of its input gradient.
#include "cpu/tap_conv.h"

namespace palimpsest::cpu {

TapConv forward_taps(const ConvShape& s) {
  TapConv conv{s.n,
               s.h,
               s.w,
               s.c,
               s.oh,
               s.ow,
               s.stride_h,
               s.stride_w,
               s.oh * s.ow * s.o,
               s.ow * s.o,
               s.o,
               s.c / s.groups,
               s.o / s.groups,
               {}};
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      conv.taps.push_back({kh * s.dilation_h - s.pad_top, kw * s.dilation_w - s.pad_left, kh * s.kw + kw});
    }
  }
  return conv;
}

namespace {

// One axis of a phase: which kernel positions k reach x at phase + stride i from y at i + offset.
struct AxisTap {
  int64_t k, offset;
};

std::vector<AxisTap> axis_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  std::vector<AxisTap> taps;
  for (int64_t k = 0; k < kernel; ++k) {
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
      Phase phase;
      phase.conv = {s.n,
                    s.oh,
                    s.ow,
                    s.o,
                    (s.h - ph + s.stride_h - 1) / s.stride_h,
                    (s.w - pw + s.stride_w - 1) / s.stride_w,
                    1,
                    1,
                    s.h * s.w * s.c,
                    s.stride_h * s.w * s.c,
                    s.stride_w * s.c,
                    s.o / s.groups,
                    s.c / s.groups,
                    {}};
      phase.y_offset = (ph * s.w + pw) * s.c;
      for (const AxisTap& a : axis_taps(ph, s.kh, s.stride_h, s.dilation_h, s.pad_top)) {
        for (const AxisTap& b : axis_taps(pw, s.kw, s.stride_w, s.dilation_w, s.pad_left)) {
          phase.conv.taps.push_back({a.offset, b.offset, a.k * s.kw + b.k});
        }
      }
      phases.push_back(std::move(phase));
    }
  }
  return phases;
}

}  // namespace palimpsest::cpu
