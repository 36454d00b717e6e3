// Taps of a convolution and of the phases of its input gradient.
#include "cuda/tap_conv.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace palimpsest::cuda {
namespace {

int size32(int64_t value) {
  constexpr int64_t most = int64_t{1} << 28;
  if (std::abs(value) <= most) return static_cast<int>(value);
  throw Error(ErrorCode::unsupported, "expected sizes of a convolution of at most " + std::to_string(most) +
                                          " on a CUDA device, got " + std::to_string(value));
}

// Kernels count positions of the batch and elements of an image in 32 bits.
void check_counts(const ConvShape& s) {
  constexpr int64_t most = (int64_t{1} << 31) - 4096;
  const int64_t image = std::max(s.h * s.w * s.c, s.oh * s.ow * s.o),
                positions = s.n * std::max(s.h * s.w, s.oh * s.ow);
  if (image <= most && positions <= most) return;
  throw Error(ErrorCode::unsupported, "expected at most " + std::to_string(most) +
                                          " elements of an image and positions of a batch in a convolution on a CUDA "
                                          "device, got " +
                                          std::to_string(image) + " and " + std::to_string(positions) +
                                          "; a smaller batch helps");
}

// One axis of the input gradient's phase: taps k in ascending order of where they read, k = first + a apart.
struct Axis {
  int64_t count = 0, first = 0, apart = 0;  // kernel positions
  int64_t offset = 0, offset_apart = 0;     // where they read y
};

Axis phase_axis(int64_t phase, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  Axis axis;
  for (int64_t k = kernel - 1; k >= 0; --k) {
    const int64_t distance = phase + pad - k * dilation;
    if (distance % stride != 0) continue;
    const int64_t offset = distance / stride;
    if (axis.count == 0) axis.first = k, axis.offset = offset;
    if (axis.count == 1) axis.apart = k - axis.first, axis.offset_apart = offset - axis.offset;
    ++axis.count;
  }
  return axis;
}

void set_divisors(TapConv& conv) {
  conv.by_in = Divisor(std::max(1, conv.in));
  conv.by_taps_w = Divisor(std::max(1, conv.taps_w));
  conv.by_image = Divisor(std::max(1, conv.grid_h * conv.grid_w));
  conv.by_row = Divisor(std::max(1, conv.grid_w));
}

}  // namespace

TapConv forward_taps(const ConvShape& s) {
  check_counts(s);
  TapConv conv{};
  conv.n = size32(s.n), conv.h = size32(s.h), conv.w = size32(s.w), conv.x_channels = size32(s.c);
  conv.grid_h = size32(s.oh), conv.grid_w = size32(s.ow);
  conv.step_h = size32(s.stride_h), conv.step_w = size32(s.stride_w);
  conv.first_h = size32(-s.pad_top), conv.first_w = size32(-s.pad_left);
  conv.apart_h = size32(s.dilation_h), conv.apart_w = size32(s.dilation_w);
  conv.taps_h = size32(s.kh), conv.taps_w = size32(s.kw);
  conv.weight_apart_h = conv.weight_apart_w = 1;
  conv.in = size32(s.c / s.groups), conv.out = size32(s.o / s.groups);
  conv.y_image = s.oh * s.ow * s.o, conv.y_row = s.ow * s.o, conv.y_column = s.o;
  // What a kernel computes with them.
  size32((s.kh - 1) * s.dilation_h + s.pad_top), size32((s.kw - 1) * s.dilation_w + s.pad_left);
  size32(s.oh * s.stride_h), size32(s.ow * s.stride_w), size32(s.kh * s.kw * (s.c / s.groups));
  set_divisors(conv);
  return conv;
}

std::vector<TapConv> input_gradient_phases(const ConvShape& s) {
  check_counts(s);
  std::vector<TapConv> phases;
  int64_t packed = 0;
  for (int64_t ph = 0; ph < s.stride_h && ph < s.h; ++ph) {
    for (int64_t pw = 0; pw < s.stride_w && pw < s.w; ++pw) {
      const Axis a = phase_axis(ph, s.kh, s.stride_h, s.dilation_h, s.pad_top);
      const Axis b = phase_axis(pw, s.kw, s.stride_w, s.dilation_w, s.pad_left);
      TapConv conv{};
      conv.n = size32(s.n), conv.h = size32(s.oh), conv.w = size32(s.ow), conv.x_channels = size32(s.o);
      conv.grid_h = size32((s.h - ph + s.stride_h - 1) / s.stride_h);
      conv.grid_w = size32((s.w - pw + s.stride_w - 1) / s.stride_w);
      conv.step_h = conv.step_w = 1;
      conv.first_h = size32(a.offset), conv.first_w = size32(b.offset);
      conv.apart_h = size32(a.offset_apart), conv.apart_w = size32(b.offset_apart);
      conv.taps_h = size32(a.count), conv.taps_w = size32(b.count);
      conv.weight_h = size32(a.first), conv.weight_w = size32(b.first);
      conv.weight_apart_h = size32(a.apart), conv.weight_apart_w = size32(b.apart);
      conv.in = size32(s.o / s.groups), conv.out = size32(s.c / s.groups);
      conv.y_first = (ph * s.w + pw) * s.c;
      conv.y_image = s.h * s.w * s.c, conv.y_row = s.stride_h * s.w * s.c, conv.y_column = s.stride_w * s.c;
      size32(s.kh * s.kw * (s.o / s.groups));
      set_divisors(conv);
      conv.packed = packed;
      packed += static_cast<int64_t>(conv.depth());
      phases.push_back(conv);
    }
  }
  return phases;
}

}  // namespace palimpsest::cuda
