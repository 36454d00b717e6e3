// Sweep over products and convolutions that an elementwise program follows: what a kernel does to its result before it
// is stored, and what is left to a pass of its own.
#include <cmath>

#include "cpu/onednn.h"
#include "cpu/post_ops.h"
#include "kernel_case.h"
#include "tested_device.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

enum class Follow { bias_relu, normalise, shortcut, affine, kept, scaled, reversed, twice, leaky };

constexpr std::pair<Follow, const char*> follows[] = {{Follow::bias_relu, "bias, relu"},
                                                      {Follow::normalise, "normalise, relu"},
                                                      {Follow::shortcut, "shortcut, relu"},
                                                      {Follow::affine, "affine, relu"},
                                                      {Follow::kept, "bias"},
                                                      {Follow::scaled, "normalise, affine"},
                                                      {Follow::reversed, "operand - y"},
                                                      {Follow::twice, "y + y"},
                                                      {Follow::leaky, "leaky relu"}};

Instruction step(Code code, int32_t a, int32_t b = -1, int32_t c = -1) {
  Instruction made;
  made.code = code, made.a = a, made.b = b, made.c = c;
  return made;
}

Instruction function(Unary unary, int32_t a, double alpha = 0, double beta = 0) {
  Instruction made = step(Code::unary, a);
  made.unary = unary, made.alpha = alpha, made.beta = beta;
  return made;
}

// One value a channel, over all of y.
Tensor channel_input(Stage& stage, const Tensor& y, size_t axis) {
  Tensor x = stage.input({y.dims[axis]});
  x.dims = y.dims;
  x.strides.assign(y.dims.size(), 0);
  x.strides[axis] = 1;
  return x;
}

struct Made {
  ElementwiseProgram program;
  std::vector<Tensor> inputs;
};

Made make(Follow follow, Stage& stage, const Tensor& y, size_t axis) {
  Made made;
  made.inputs = {y};
  const auto channel = [&] { made.inputs.push_back(channel_input(stage, y, axis)); };
  const auto whole = [&] { made.inputs.push_back(stage.input(y.dims, y.strides)); };
  // On magnitudes differences are sums.
  const Code minus = stage.magnitudes() ? Code::add : Code::sub;
  std::vector<Instruction>& steps = made.program.instructions;
  switch (follow) {
    case Follow::bias_relu:
      channel();
      steps = {step(Code::add, 1, 0), function(Unary::relu, 2)};
      break;
    case Follow::normalise:
      for (int i = 0; i < 4; ++i) channel();
      steps = {step(minus, 0, 1), step(Code::mul, 5, 2), step(Code::mul_add, 3, 6, 4), function(Unary::relu, 7)};
      break;
    case Follow::scaled:
      for (int i = 0; i < 4; ++i) channel();
      steps = {step(minus, 0, 1), step(Code::mul, 5, 2), step(Code::mul_add, 3, 6, 4),
               function(Unary::affine, 7, 0.75, 0.125)};
      break;
    case Follow::shortcut:
      channel(), channel(), whole();
      steps = {step(Code::mul_add, 0, 1, 2), step(Code::add, 3, 4), function(Unary::relu, 5)};
      break;
    case Follow::affine: steps = {function(Unary::affine, 0, 0.75, 0.125), function(Unary::relu, 1)}; break;
    case Follow::kept:
      channel();
      steps = {step(Code::add, 0, 1)};
      break;
    case Follow::reversed:
      whole();
      steps = {step(minus, 1, 0)};
      break;
    case Follow::twice: steps = {step(Code::add, 0, 0)}; break;
    case Follow::leaky: steps = {function(Unary::leaky_relu, 0, 0.25)}; break;
  }
  made.program.inputs = static_cast<int32_t>(made.inputs.size());
  made.program.outputs = {made.program.inputs + static_cast<int32_t>(steps.size()) - 1};
  return made;
}

void add_convs(const ConvShape& s) {
  const Dims x_dims{s.n, s.c, s.h, s.w}, y_dims{s.n, s.o, s.oh, s.ow}, w_dims{s.o, s.c / s.groups, s.kh, s.kw};
  const double terms = static_cast<double>(s.c / s.groups * s.kh * s.kw);
  // Large weights, which have a kernel of their own, take long: with what runs in it alone.
  const bool large = element_count(w_dims) > 1 << 20;
  for (const auto& [follow, name] : follows) {
    if (large && follow != Follow::kept && follow != Follow::scaled) continue;
    add_kernel_case(
        "conv " + to_string(x_dims) + " to " + to_string(y_dims) + " by " + to_string({s.kh, s.kw}) + " groups " +
            std::to_string(s.groups) + ", " + name,
        [=, follow = follow](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(x_dims, Layout::channels_last), w = stage.input(w_dims);
          const Tensor y = stage.output(y_dims, sum_of(terms + 8), Layout::channels_last);
          const Made made = make(follow, stage, y, 1);
          backend.conv_epilogue(s, x, w, y, {made.program, made.inputs});
        },
        true, false);
  }
}

}  // namespace

SWEEP(conv_epilogue_cases) {
  // n, c, h, w, o, kernel, stride, groups; every pad half the kernel
  for (const Dims& row : {Dims{2, 3, 7, 9, 5, 3, 1, 1},
                          {2, 32, 9, 8, 32, 3, 1, 1},
                          {3, 16, 8, 8, 64, 1, 2, 1},
                          {4, 64, 6, 5, 17, 3, 2, 1},
                          {2, 18, 7, 6, 18, 3, 1, 18},
                          {2, 12, 5, 5, 8, 3, 1, 2},
                          {1, 3, 4, 4, 1, 3, 1, 1},
                          {5, 24, 13, 11, 48, 3, 1, 1},
                          {3, 33, 9, 10, 80, 1, 1, 1},
                          {2, 8, 30, 7, 16, 5, 2, 1},
                          {2, 32, 6, 6, 64, 3, 1, 2},
                          {2, 1, 12, 12, 32, 5, 1, 1},
                          {1, 330, 1, 2, 361, 3, 1, 1}}) {
    ConvShape s;
    s.n = row[0], s.c = row[1], s.h = row[2], s.w = row[3], s.o = row[4], s.kh = s.kw = row[5];
    s.stride_h = s.stride_w = row[6], s.groups = row[7], s.pad_top = s.pad_left = row[5] / 2;
    s.oh = (s.h + 2 * s.pad_top - s.kh) / s.stride_h + 1;
    s.ow = (s.w + 2 * s.pad_left - s.kw) / s.stride_w + 1;
    add_convs(s);
  }
}

SWEEP(gemm_epilogue_cases) {
  struct Row {
    Dims lead;  // y's axes before its last; their product is m
    int64_t k, n;
    bool trans_a, trans_b;
  };
  for (const Row& r : {Row{{64}, 48, 64, false, false},
                       {{3, 22}, 40, 35, false, true},
                       {{70}, 33, 128, false, true},
                       {{5}, 7, 3, false, false},
                       {{600}, 32, 64, false, false},
                       {{40}, 50, 64, true, false}}) {
    GemmShape s;
    s.m = element_count(r.lead), s.k = r.k, s.n = r.n, s.trans_a = r.trans_a, s.trans_b = r.trans_b;
    s.lda = r.trans_a ? s.m : s.k, s.ldb = r.trans_b ? s.k : s.n, s.ldc = s.n;
    Dims y_dims = r.lead;
    y_dims.push_back(s.n);
    for (const auto& [follow, name] : follows) {
      add_kernel_case(
          "gemm " + to_string(y_dims) + " over " + std::to_string(s.k) + (s.trans_a ? " ta" : "") +
              (s.trans_b ? " tb" : "") + ", " + name,
          [=, follow = follow](Backend& backend, Stage& stage) {
            const Tensor a = stage.input({s.m, s.k}), b = stage.input({s.k, s.n});
            const Tensor y = stage.output(y_dims, sum_of(static_cast<double>(s.k) + 8));
            const Made made = make(follow, stage, y, y_dims.size() - 1);
            backend.gemm_epilogue(s, a, b, y, {made.program, made.inputs});
          },
          true, false);
    }
  }
}

// What is not finite must not vanish behind a ReLU.
TEST(epilogues_pass_nan) {
  const auto backend = tested_backend();
  ConvShape s;
  s.n = 2, s.c = s.o = 32, s.h = s.w = s.oh = s.ow = 6, s.kh = s.kw = 3, s.pad_top = s.pad_left = 1;
  std::vector<float> x(2 * 6 * 6 * 32, 1.0f), w(32 * 32 * 9, 0.5f), bias(32, 0.25f), y(x.size());
  w[0] = std::nanf("");  // the first channel's
  const auto hold = [&](std::vector<float>& values) {
    void* data = backend->allocate(values.size() * sizeof(float));
    backend->copy_in(data, values.data(), values.size() * sizeof(float));
    return data;
  };
  const Dims dims{2, 32, 6, 6};
  Tensor x_in = dense_tensor(hold(x), DType::f32, dims, Layout::channels_last);
  Tensor w_in = dense_tensor(hold(w), DType::f32, {32, 32, 3, 3}, Layout::row_major);
  Tensor y_out = dense_tensor(hold(y), DType::f32, dims, Layout::channels_last);
  Tensor b_in = y_out;
  b_in.data = hold(bias), b_in.strides = {0, 1, 0, 0};
  const ElementwiseProgram program{2, {step(Code::add, 0, 1), function(Unary::relu, 2)}, {3}};
  const Tensor inputs[] = {y_out, b_in};
  backend->conv_epilogue(s, x_in, w_in, y_out, {program, inputs});
  backend->copy_out(y.data(), y_out.data, y.size() * sizeof(float));
  CHECK(std::isnan(y[7 * 32]));  // channel 0, a position whose window has the tap
  CHECK(y[7 * 32 + 1] == 32 * 9 * 0.5f + 0.25f);
  for (const Tensor* tensor : {&x_in, &w_in, &y_out, &b_in}) backend->release(tensor->data);
}

// Where oneDNN is built in: a chain that only its plain loops have would leave every epilogue to a pass of its own.
TEST(onednn_has_kernels_with_epilogues) {
  using cpu::PostOp;
  if (cpu::onednn_version().empty() || cpu::current_isa() < cpu::Isa::avx2) return;
  const std::vector<float> scale(32, 2.0f), shift(32, 0.5f);
  const PostOp chain[] = {{.kind = PostOp::Kind::multiply, .channels = scale.data()},
                          {.kind = PostOp::Kind::add, .channels = shift.data()},
                          {.kind = PostOp::Kind::affine, .alpha = 4, .beta = 1},
                          {.kind = PostOp::Kind::subtract, .channels = scale.data()}};
  for (const int64_t c : {3, 32}) {
    ConvShape s;
    s.n = 2, s.c = c, s.o = 32, s.h = s.w = s.oh = s.ow = 4, s.kh = s.kw = 3, s.pad_top = s.pad_left = 1;
    const std::vector<float> x(static_cast<size_t>(2 * 16 * c), 0.5f), w(static_cast<size_t>(32 * c * 9), 1.0f);
    std::vector<float> y(2 * 16 * 32, -1);
    CHECK(cpu::onednn_conv(s, x.data(), w.data(), y.data(), chain));
    CHECK(y[5 * 32] == 8 * 4.5f * static_cast<float>(c) + 1);
  }
  GemmShape g;
  g.m = 40, g.n = 32, g.k = 64, g.trans_b = true, g.lda = g.ldb = 64, g.ldc = 32;
  const std::vector<float> a(40 * 64, 0.25f), b(32 * 64, 1.0f);
  std::vector<float> y(40 * 32, -1);
  CHECK(cpu::onednn_gemm(g, a.data(), b.data(), y.data(), chain));
  CHECK(y == std::vector<float>(40 * 32, 8 * 16 + 1));
}

TEST(epilogues_are_chains_or_not) {
  const Dims dims{2, 16, 3, 3};
  float memory[1] = {};
  const Tensor y = dense_tensor(memory, DType::f32, dims, Layout::channels_last);
  Tensor channel = y, all = y;
  channel.strides = {0, 1, 0, 0}, all.strides = {0, 0, 0, 0};
  const auto length = [&](const Tensor& operand, std::vector<Instruction> steps) {
    const Tensor inputs[] = {y, operand};
    const ElementwiseProgram program{2, steps, {1 + static_cast<int32_t>(steps.size())}};
    const auto chain = cpu::post_ops_of({program, inputs}, 1);
    return chain ? static_cast<int>(chain->size()) : -1;
  };
  const Instruction affine = function(Unary::affine, 2, 2, 1);
  CHECK(length(channel, {step(Code::add, 0, 1), affine}) == 2);
  CHECK(length(channel, {step(Code::add, 1, 0), affine}) == 2);
  CHECK(length(channel, {step(Code::sub, 0, 1), affine}) == 2);
  CHECK(length(channel, {step(Code::mul_add, 0, 1, 1), affine}) == 3);
  CHECK(length(y, {step(Code::add, 0, 1), affine}) == -1);
  CHECK(length(all, {step(Code::add, 0, 1), affine}) == -1);
  CHECK(length(channel, {step(Code::sub, 1, 0), affine}) == -1);
  CHECK(length(channel, {step(Code::add, 0, 0), affine}) == -1);
  CHECK(length(channel, {step(Code::add, 0, 1), step(Code::mul, 2, 0)}) == -1);
  CHECK(length(channel, {step(Code::add, 0, 1), function(Unary::sigmoid, 2)}) == -1);
  CHECK(length(channel, {step(Code::add, 0, 1), function(Unary::relu, 2)}) == -1);
}
