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

const Row squared[] = {
    {2, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},    {3, 62, 7, 9, 63, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {3, 96, 8, 7, 61, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},    {5, 64, 16, 4, 62, 3, 1, 1, 1, 1, 1, 1, 0, 1, 0},
    {2, 64, 17, 15, 61, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1},  {2, 61, 12, 10, 64, 3, 3, 1, 1, 2, 3, 2, 3, 2, 3},
    {3, 125, 16, 8, 128, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, {1, 30, 24, 24, 62, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
};

// n, t, i, o
const Dims linear_squared[] = {{3, 64, 128, 128}, {2, 160, 128, 126}, {5, 64, 96, 127}};

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

SWEEP(tiled_squares) {
  for (const Row& row : squared) {
    const ConvShape s = shape(row);
    add_kernel_case("conv_grad_squares " + text(s), [s](Backend& backend, Stage& stage) {
      const Layout last = Layout::channels_last;
      const Tensor x = stage.input({s.n, s.c, s.h, s.w}, last), y_bar = stage.input({s.n, s.o, s.oh, s.ow}, last);
      const double positions = static_cast<double>(s.n * s.oh * s.ow);
      backend.conv_grad_squares(s, x, y_bar, stage.output({s.o, s.c, s.kh, s.kw}, sum_of(2 * positions)));
    });
  }
  for (const Dims& size : linear_squared) {
    const int64_t n = size[0], t = size[1], i = size[2], o = size[3];
    add_kernel_case("linear_grad_squares " + to_string(size) + " on tiles", [=](Backend& backend, Stage& stage) {
      const Tensor x = stage.input({n, t, i}), y_bar = stage.input({n, t, o});
      const double terms = 2 * static_cast<double>(t) + static_cast<double>(n);
      backend.linear_grad_squares(n, t, i, o, x, y_bar, stage.output({i, o}, sum_of(terms)));
    });
  }
}

// The cases above would pass without tiles too.
TEST(tiles_take_the_shapes_of_their_sweep) {
  if (cpu::current_isa() != cpu::Isa::amx) return skip("no AMX in use");
  const auto zeros = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count)); };
  for (const Row& row : gradients) {
    const ConvShape s = shape(row);
    std::vector<float> x = zeros(s.n * s.h * s.w * s.c), y = zeros(s.n * s.oh * s.ow * s.o);
    std::vector<float> w = zeros(s.o * s.c * s.kh * s.kw);
    check::check(cpu::amx_conv_weight_gradient(s, x.data(), y.data(), w.data()), __FILE__, __LINE__, text(s));
  }
  for (const Row& row : squared) {
    const ConvShape s = shape(row);
    std::vector<float> x = zeros(s.n * s.h * s.w * s.c), y = zeros(s.n * s.oh * s.ow * s.o);
    std::vector<float> w = zeros(s.o * s.c * s.kh * s.kw);
    check::check(cpu::amx_conv_grad_squares(s, x.data(), y.data(), w.data()), __FILE__, __LINE__, text(s));
  }
  for (const Dims& d : linear_squared) {
    std::vector<float> x = zeros(d[0] * d[1] * d[2]), y = zeros(d[0] * d[1] * d[3]), s = zeros(d[2] * d[3]);
    check::check(cpu::amx_linear_grad_squares(d[0], d[1], d[2], d[3], x.data(), y.data(), s.data()), __FILE__, __LINE__,
                 to_string(d));
  }
}
