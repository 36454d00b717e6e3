// Sliding windows: what convolution and pooling share about sizes.
#include "ops/window.h"

#include "core/error.h"

namespace palimpsest {

namespace {

int64_t entry(const Dims& dims, size_t i, int64_t fallback) { return dims.empty() ? fallback : dims.at(i); }

// What a window is made of stays below 2^31, so that sums and products of two of them fit.
void check_entries(const char* what, const Dims& list, size_t count, int64_t least) {
  bool good = list.size() == count;
  for (int64_t value : list) good = good && value >= least && value < (int64_t{1} << 31);
  if (good) return;
  throw Error(ErrorCode::shape, "expected " + std::to_string(count) + " " + what + " from " + std::to_string(least) +
                                    " to 2^31 - 1, got " + to_string(list));
}

}  // namespace

Dims window_output(const Attributes& at, const Dims& x, const Dims& kernel, int64_t channels) {
  if (x.size() != 4) throw Error(ErrorCode::shape, "expected x [N, C, H, W]");
  check_entries("kernel sizes", kernel, 2, 1);
  if (!at.strides.empty()) check_entries("strides", at.strides, 2, 1);
  if (!at.dilations.empty()) check_entries("dilations", at.dilations, 2, 1);
  if (!at.pads.empty()) check_entries("pads", at.pads, 4, 0);
  Dims y = {x[0], channels, 0, 0};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t padded = x[2 + i] + entry(at.pads, i, 0) + entry(at.pads, 2 + i, 0);
    const int64_t span = entry(at.dilations, i, 1) * (kernel[i] - 1) + 1;
    if (padded < span) {
      throw Error(ErrorCode::shape, "expected a kernel that fits the padded input, got kernel " + to_string(kernel) +
                                        " on " + to_string(x) + " with pads " + to_string(at.pads));
    }
    y[2 + i] = (padded - span) / entry(at.strides, i, 1) + 1;
  }
  return y;
}

ConvShape window_shape(const Attributes& at, const Dims& x, const Dims& y, const Dims& kernel) {
  ConvShape s;
  s.n = x[0], s.c = x[1], s.h = x[2], s.w = x[3];
  s.o = y[1], s.oh = y[2], s.ow = y[3];
  s.kh = kernel[0], s.kw = kernel[1];
  s.stride_h = entry(at.strides, 0, 1), s.stride_w = entry(at.strides, 1, 1);
  s.dilation_h = entry(at.dilations, 0, 1), s.dilation_w = entry(at.dilations, 1, 1);
  s.pad_top = entry(at.pads, 0, 0), s.pad_left = entry(at.pads, 1, 0);
  return s;
}

}  // namespace palimpsest
