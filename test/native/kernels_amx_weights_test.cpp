// Sweep over sums of weights on AMX tiles: shapes that they take, with tiles that are not full.
#include <vector>

#include "cpu/amx.h"
#include "cpu/isa.h"
#include "kernel_case.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

struct Row {
  int64_t n, c, h, w, o, kh, kw, sh, sw, dh, dw, top, left, bottom, right;
};

ConvShape shape(const Row& r) {
  ConvShape s;
  s.n = r.n, s.c = r.c, s.h = r.h, s.w = r.w, s.o = r.o, s.kh = r.kh, s.kw = r.kw;
  s.stride_h = r.sh, s.stride_w = r.sw, s.dilation_h = r.dh, s.dilation_w = r.dw, s.pad_top = r.top,
  s.pad_left = r.left;
  s.oh = (s.h + s.pad_top + r.bottom - s.dilation_h * (s.kh - 1) - 1) / s.stride_h + 1;
  s.ow = (s.w + s.pad_left + r.right - s.dilation_w * (s.kw - 1) - 1) / s.stride_w + 1;
  return s;
}

std::string text(const ConvShape& s) {
  return to_string({s.n, s.c, s.h, s.w}) + " to " + to_string({s.o, s.oh, s.ow}) + " by " + to_string({s.kh, s.kw}) +
         " stride " + to_string({s.stride_h, s.stride_w}) + " dilation " + to_string({s.dilation_h, s.dilation_w}) +
         " pad " + to_string({s.pad_top, s.pad_left}) + " on tiles";
}

// n, c, h, w, o; kh, kw, strides, dilations, pads top, left, bottom, right
const Row gradients[] = {
    {32, 32, 3, 4, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},   {16, 62, 2, 3, 60, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {17, 61, 3, 2, 63, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},   {40, 31, 3, 2, 63, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {64, 61, 2, 3, 31, 3, 2, 1, 1, 1, 1, 1, 0, 1, 1},   {32, 47, 5, 6, 46, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1},
    {32, 30, 5, 5, 64, 3, 3, 1, 1, 2, 3, 2, 3, 2, 3},   {32, 128, 2, 3, 126, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {31, 126, 3, 5, 128, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0}, {1, 64, 9, 11, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {3, 62, 8, 7, 64, 2, 3, 2, 1, 1, 2, 0, 2, 1, 1},    {32, 30, 1, 45, 62, 1, 3, 1, 1, 1, 1, 0, 1, 0, 1},
    {33, 30, 7, 2, 63, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},   {2, 64, 5, 15, 64, 3, 3, 3, 1, 2, 2, 4, 0, 3, 1},
};

}  // namespace

SWEEP(tiled_weight_gradients) {
  for (const Row& row : gradients) {
    const ConvShape s = shape(row);
    add_kernel_case(
        "conv_weight_gradient " + text(s),
        [s](Backend& backend, Stage& stage) {
          const Layout last = Layout::channels_last;
          const Tensor x = stage.input({s.n, s.c, s.h, s.w}, last), y_bar = stage.input({s.n, s.o, s.oh, s.ow}, last);
          const double positions = static_cast<double>(s.n * s.oh * s.ow);
          backend.conv_weight_gradient(s, x, y_bar, stage.output({s.o, s.c, s.kh, s.kw}, sum_of(positions)));
        },
        true);
  }
}

// The cases above would pass without tiles too.
TEST(tiles_take_the_shapes_of_their_sweep) {
  if (cpu::current_isa() != cpu::Isa::amx) return skip("no AMX in use");
  for (const Row& row : gradients) {
    const ConvShape s = shape(row);
    const std::vector<float> x(static_cast<size_t>(s.n * s.h * s.w * s.c)),
        y(static_cast<size_t>(s.n * s.oh * s.ow * s.o));
    std::vector<float> w(static_cast<size_t>(s.o * s.c * s.kh * s.kw));
    check::check(cpu::amx_conv_weight_gradient(s, x.data(), y.data(), w.data()), __FILE__, __LINE__, text(s));
  }
}
