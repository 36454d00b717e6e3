// Sliding windows: what convolution and pooling share about sizes.
#include "ops/window.h"

#include "core/error.h"

namespace palimpsest {

namespace {

int64_t entry(const Dims& dims, size_t i, int64_t fallback) { return dims.empty() ? fallback : dims.at(i); }

}  // namespace

Dims window_output(const Attributes& at, const Dims& x, const Dims& kernel, int64_t channels) {
  if (x.size() != 4 || kernel.size() != 2) throw Error(ErrorCode::shape, "expected x [N, C, H, W] and a kernel of two axes");
  for (const Dims* list : {&at.strides, &at.dilations}) {
    if (!list->empty() && (list->size() != 2 || (*list)[0] < 1 || (*list)[1] < 1)) {
      throw Error(ErrorCode::shape, "expected two strides and dilations of 1 or more, got " + to_string(*list));
    }
  }
  if (!at.pads.empty() && at.pads.size() != 4) throw Error(ErrorCode::shape, "expected four pads, got " + to_string(at.pads));
  Dims y = {x[0], channels, 0, 0};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t padded = x[2 + i] + entry(at.pads, i, 0) + entry(at.pads, 2 + i, 0);
    const int64_t span = entry(at.dilations, i, 1) * (kernel[i] - 1) + 1;
    if (kernel[i] < 1 || entry(at.pads, i, 0) < 0 || entry(at.pads, 2 + i, 0) < 0 || padded < span) {
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
