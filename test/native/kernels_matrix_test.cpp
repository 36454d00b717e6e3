// Sweep over the matrix products and convolutions of the kernel table.
#include <cmath>

#include "kernel_case.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

std::string text(const GemmShape& s) {
  return to_string({s.batch, s.m, s.k, s.n}) + (s.trans_a ? " ta" : "") + (s.trans_b ? " tb" : "") +
         (s.alpha != 1 ? " alpha" : "") + (s.beta != 0 ? " beta" : "");
}

// A matrix of `rows` x `columns`, a batch of them `distance` apart, as one tensor with row gaps.
Dims matrices(int64_t batch, int64_t distance, int64_t rows) { return {distance == 0 ? 1 : batch, rows, 0}; }

void add_gemm(GemmShape s, int64_t gap_a, int64_t gap_b, int64_t gap_c, bool repeat_a, bool repeat_b) {
  const int64_t rows_a = s.trans_a ? s.k : s.m, columns_a = s.trans_a ? s.m : s.k;
  const int64_t rows_b = s.trans_b ? s.n : s.k, columns_b = s.trans_b ? s.k : s.n;
  s.lda = columns_a + gap_a, s.ldb = columns_b + gap_b, s.ldc = s.n + gap_c;
  s.stride_a = repeat_a ? 0 : rows_a * s.lda + 5;
  s.stride_b = repeat_b ? 0 : rows_b * s.ldb + 3;
  s.stride_c = s.m * s.ldc + 7;
  add_kernel_case(
      "gemm " + text(s) + (gap_a + gap_b + gap_c ? " gaps" : "") + (repeat_a ? " repeat a" : "") +
          (repeat_b ? " repeat b" : ""),
      [=](Backend& backend, Stage& stage) {
        const auto dims = [&](int64_t distance, int64_t rows, int64_t columns) {
          Dims d = matrices(s.batch, distance, rows);
          d[2] = columns;
          return d;
        };
        const Tensor a = stage.input(dims(s.stride_a, rows_a, columns_a), {s.stride_a, s.lda, 1});
        const Tensor b = stage.input(dims(s.stride_b, rows_b, columns_b), {s.stride_b, s.ldb, 1});
        const Dims c_dims{s.batch, s.m, s.n}, c_strides{s.stride_c, s.ldc, 1};
        const Allowance allow = sum_of(static_cast<double>(s.k) + 2);
        const Tensor c = s.beta == 0 ? stage.output(c_dims, c_strides, allow) : stage.changed(c_dims, c_strides, allow);
        // On magnitudes alpha and beta count with theirs.
        GemmShape shape = s;
        if (stage.magnitudes()) shape.alpha = std::abs(s.alpha), shape.beta = std::abs(s.beta);
        backend.gemm(shape, a, b, c);
      },
      true, s.k > 0 && s.m * s.n * s.batch > 0);
}

ConvShape with_output(ConvShape s, int64_t pad_bottom, int64_t pad_right) {
  s.oh = (s.h + s.pad_top + pad_bottom - s.dilation_h * (s.kh - 1) - 1) / s.stride_h + 1;
  s.ow = (s.w + s.pad_left + pad_right - s.dilation_w * (s.kw - 1) - 1) / s.stride_w + 1;
  return s;
}

std::string text(const ConvShape& s) {
  return to_string({s.n, s.c, s.h, s.w}) + " to " + to_string({s.o, s.oh, s.ow}) + " by " + to_string({s.kh, s.kw}) +
         " stride " + to_string({s.stride_h, s.stride_w}) + " dilation " + to_string({s.dilation_h, s.dilation_w}) +
         " pad " + to_string({s.pad_top, s.pad_left}) + " groups " + std::to_string(s.groups);
}

// `sparse` where most of y lies in the pads or most of x is never read.
void add_conv(const ConvShape& s, bool sparse) {
  const Layout last = Layout::channels_last;
  const Dims x_dims{s.n, s.c, s.h, s.w}, y_dims{s.n, s.o, s.oh, s.ow}, w_dims{s.o, s.c / s.groups, s.kh, s.kw};
  const double window = static_cast<double>(s.kh * s.kw), images = static_cast<double>(s.n * s.oh * s.ow);
  const double in = static_cast<double>(s.c / s.groups), out = static_cast<double>(s.o / s.groups);
  const bool telling = s.n > 0 && !sparse;
  add_kernel_case(
      "conv " + text(s),
      [=](Backend& backend, Stage& stage) {
        const Tensor x = stage.input(x_dims, last), w = stage.input(w_dims);
        backend.conv(s, x, w, stage.output(y_dims, sum_of(in * window), last));
      },
      true, telling);
  add_kernel_case(
      "conv_input_gradient " + text(s),
      [=](Backend& backend, Stage& stage) {
        const Tensor w = stage.input(w_dims), y_bar = stage.input(y_dims, last);
        backend.conv_input_gradient(s, w, y_bar, stage.output(x_dims, sum_of(out * window), last));
      },
      true, telling);
  add_kernel_case(
      "conv_weight_gradient " + text(s),
      [=](Backend& backend, Stage& stage) {
        const Tensor x = stage.input(x_dims, last), y_bar = stage.input(y_dims, last);
        backend.conv_weight_gradient(s, x, y_bar, stage.output(w_dims, sum_of(images)));
      },
      true, telling);
  add_kernel_case(
      "conv_grad_squares " + text(s),
      [=](Backend& backend, Stage& stage) {
        const Tensor x = stage.input(x_dims, last), y_bar = stage.input(y_dims, last);
        backend.conv_grad_squares(s, x, y_bar, stage.output(w_dims, sum_of(2 * images)));
      },
      false, telling);
}

}  // namespace

SWEEP(gemm_cases) {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      for (const Dims& size :
           {Dims{1, 1, 1}, {7, 5, 3}, {14, 256, 32}, {15, 257, 33}, {61, 300, 47}, {129, 70, 521}, {33, 210, 128}}) {
        GemmShape s;
        s.m = size[0], s.k = size[1], s.n = size[2], s.trans_a = ta, s.trans_b = tb;
        add_gemm(s, 0, 0, 0, false, false);
      }
      GemmShape s;
      s.batch = 3, s.m = 19, s.k = 23, s.n = 37, s.trans_a = ta, s.trans_b = tb, s.alpha = -0.75, s.beta = 0.5;
      add_gemm(s, 3, 5, 2, false, false);
      add_gemm(s, 1, 0, 4, true, false);
      add_gemm(s, 0, 2, 0, false, true);
    }
  }
  for (const Dims& size :
       {Dims{1, 4, 0, 5}, {1, 0, 3, 5}, {1, 4, 3, 0}, {0, 4, 3, 5}, {2, 1, 513, 700}, {2, 300, 64, 1}}) {
    GemmShape s;
    s.batch = size[0], s.m = size[1], s.k = size[2], s.n = size[3];
    add_gemm(s, 0, 0, 0, false, false);
    s.beta = -1.5;
    add_gemm(s, 0, 0, 0, false, false);
  }
}

SWEEP(conv_cases) {
  // n, c, h, w, o; kh, kw, stride, dilation, pads top, left, bottom, right; groups
  struct Row {
    int64_t n, c, h, w, o, kh, kw, sh, sw, dh, dw, top, left, bottom, right, groups;
    bool sparse = false;
  };
  const Row rows[] = {
      {2, 3, 7, 9, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {3, 17, 6, 5, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {1, 16, 8, 7, 32, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1},
      {2, 8, 9, 11, 20, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 1, true},
      {2, 5, 11, 8, 7, 3, 2, 2, 1, 1, 1, 1, 0, 0, 1, 1},
      {2, 6, 13, 12, 10, 3, 3, 2, 3, 2, 1, 2, 1, 1, 3, 1},
      {1, 4, 10, 13, 6, 2, 5, 3, 2, 1, 2, 0, 3, 2, 4, 1, true},
      {2, 12, 7, 6, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3},
      {2, 19, 9, 8, 19, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 19},
      {2, 70, 7, 6, 70, 3, 5, 2, 1, 1, 2, 1, 4, 0, 2, 70},
      {2, 6, 8, 9, 12, 3, 3, 1, 2, 1, 1, 1, 1, 0, 1, 6},
      {1, 300, 5, 4, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {2, 3, 28, 27, 8, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, 1},
      {5, 2, 3, 4, 70, 3, 4, 1, 1, 1, 1, 0, 0, 0, 0, 1},
      {2, 7, 5, 6, 9, 3, 3, 4, 4, 1, 1, 0, 0, 0, 0, 1, true},
      {1, 3, 4, 5, 2, 3, 3, 1, 1, 1, 1, 5, 4, 3, 6, 1, true},
      {0, 3, 6, 5, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {2, 1, 12, 11, 6, 5, 3, 1, 1, 1, 1, 0, 0, 0, 0, 1},
      {2, 40, 6, 7, 30, 1, 3, 1, 1, 1, 3, 0, 2, 0, 4, 2},
      {3, 1, 6, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      // Whole vectors of outputs: squares in place.
      {3, 17, 6, 5, 48, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {5, 29, 9, 8, 16, 3, 2, 2, 3, 2, 1, 2, 0, 1, 1, 1, true},
      {2, 20, 4, 5, 64, 3, 3, 1, 1, 1, 1, 3, 2, 0, 3, 2},
      // Batches that fill tiles: whole and ragged blocks of images and channels, bands of columns, chunks of channels.
      {16, 32, 5, 6, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {40, 26, 7, 6, 40, 3, 3, 2, 2, 1, 1, 1, 0, 0, 1, 1},
      {32, 60, 4, 4, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {27, 32, 6, 9, 32, 3, 2, 1, 2, 2, 3, 2, 1, 0, 2, 1},
      {32, 32, 5, 7, 48, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 1, true},
      {3, 40, 6, 5, 32, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1},
      {16, 448, 4, 4, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
      {16, 64, 3, 40, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
  };
  for (const Row& r : rows) {
    ConvShape s;
    s.n = r.n, s.c = r.c, s.h = r.h, s.w = r.w, s.o = r.o, s.kh = r.kh, s.kw = r.kw;
    s.stride_h = r.sh, s.stride_w = r.sw, s.dilation_h = r.dh, s.dilation_w = r.dw;
    s.pad_top = r.top, s.pad_left = r.left, s.groups = r.groups;
    add_conv(with_output(s, r.bottom, r.right), r.sparse);
  }
}

SWEEP(linear_square_cases) {
  for (const Dims& size : {Dims{1, 1, 1, 1},
                           {6, 1, 17, 35},
                           {70, 1, 33, 10},
                           {3, 5, 7, 9},
                           {4, 65, 40, 130},
                           {2, 300, 15, 33},
                           {0, 3, 4, 5},
                           {3, 2, 1, 64},
                           {40, 130, 30, 48}}) {
    const int64_t n = size[0], t = size[1], i = size[2], o = size[3];
    add_kernel_case(
        "linear_grad_squares " + to_string(size),
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input({n, t, i}), y_bar = stage.input({n, t, o});
          backend.linear_grad_squares(
              n, t, i, o, x, y_bar, stage.output({i, o}, sum_of(2 * static_cast<double>(t) + static_cast<double>(n))));
        },
        false, n > 0);
  }
}
