// Products and convolutions of several large tiles each, with packs of channels and without.
#include "kernel_case.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

// Moves the next tensor of the stage back onto the cache line, as a device's allocator places tensors.
void skip_misplaced(Stage& stage) { stage.input({1}); }

void add_gemm(int64_t m, int64_t k, int64_t n, bool trans_a, bool trans_b, double beta) {
  GemmShape s;
  s.m = m, s.k = k, s.n = n, s.trans_a = trans_a, s.trans_b = trans_b, s.alpha = 2, s.beta = beta;
  s.lda = trans_a ? m : k, s.ldb = trans_b ? k : n, s.ldc = n;
  add_kernel_case("tiles gemm " + to_string({m, k, n}) + (trans_a ? " ta" : "") + (trans_b ? " tb" : "") +
                      (beta != 0 ? " beta" : ""),
                  [=](Backend& backend, Stage& stage) {
                    const Tensor a = stage.input({trans_a ? k : m, s.lda});
                    skip_misplaced(stage);
                    const Tensor b = stage.input({trans_b ? n : k, s.ldb});
                    skip_misplaced(stage);
                    const Allowance allow = sum_of(static_cast<double>(k) + 2);
                    const Dims dims{m, n};
                    backend.gemm(s, a, b, beta == 0 ? stage.output(dims, allow) : stage.changed(dims, {n, 1}, allow));
                  });
}

void add_conv(int64_t channels, int64_t outputs, int64_t kw, int64_t stride_h) {
  ConvShape s;
  s.n = 3, s.h = 13, s.w = 12, s.c = channels, s.o = outputs, s.kh = 3, s.kw = kw, s.stride_h = stride_h;
  s.pad_top = s.pad_left = 1;
  s.oh = (s.h + 2 - s.kh) / stride_h + 1, s.ow = s.w + 2 - kw + 1;
  const Layout last = Layout::channels_last;
  const Dims x_dims{s.n, s.c, s.h, s.w}, y_dims{s.n, s.o, s.oh, s.ow}, w_dims{s.o, s.c, s.kh, s.kw};
  const double window = static_cast<double>(s.kh * s.kw), positions = static_cast<double>(s.n * s.oh * s.ow);
  const double in = static_cast<double>(channels), out = static_cast<double>(outputs);
  const std::string name = to_string(x_dims) + " to " + to_string(y_dims) + " by " + to_string({s.kh, s.kw});
  add_kernel_case("tiles conv " + name, [=](Backend& backend, Stage& stage) {
    const Tensor x = stage.input(x_dims, last), w = stage.input(w_dims);
    backend.conv(s, x, w, stage.output(y_dims, sum_of(in * window), last));
  });
  add_kernel_case("tiles conv_input_gradient " + name, [=](Backend& backend, Stage& stage) {
    const Tensor y_bar = stage.input(y_dims, last), w = stage.input(w_dims);
    backend.conv_input_gradient(s, w, y_bar, stage.output(x_dims, sum_of(out * window), last));
  });
  add_kernel_case("tiles conv_weight_gradient " + name, [=](Backend& backend, Stage& stage) {
    const Tensor x = stage.input(x_dims, last);
    skip_misplaced(stage);
    const Tensor y_bar = stage.input(y_dims, last);
    backend.conv_weight_gradient(s, x, y_bar, stage.output(w_dims, sum_of(positions)));
  });
  add_kernel_case("tiles conv_grad_squares " + name, [=](Backend& backend, Stage& stage) {
    const Tensor x = stage.input(x_dims, last);
    skip_misplaced(stage);
    const Tensor y_bar = stage.input(y_dims, last);
    backend.conv_grad_squares(s, x, y_bar, stage.output(w_dims, sum_of(2 * positions)));
  });
}

void add_linear_squares(int64_t n, int64_t t, int64_t i, int64_t o) {
  add_kernel_case("tiles linear_grad_squares " + to_string({n, t, i, o}), [=](Backend& backend, Stage& stage) {
    const Tensor x = stage.input({n, t, i});
    skip_misplaced(stage);
    const Tensor y_bar = stage.input({n, t, o});
    const double terms = 2 * static_cast<double>(t) + static_cast<double>(n);
    backend.linear_grad_squares(n, t, i, o, x, y_bar, stage.output({i, o}, sum_of(terms)));
  });
}

}  // namespace

SWEEP(tile_cases) {
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      add_gemm(256, 40, 500, trans_a, trans_b, 0);
      add_gemm(251, 57, 503, trans_a, trans_b, 0.5);
    }
  }
  add_conv(120, 124, 2, 1);
  add_conv(123, 121, 2, 1);
  add_conv(124, 120, 3, 2);
  add_linear_squares(5, 21, 252, 188);
  add_linear_squares(70, 1, 251, 380);
}
