// Sweep over elementwise programs: every function and order, broadcasts, layouts, in place; conventions at kinks.
#include <cmath>
#include <limits>

#include "cpu/isa.h"
#include "graph_run.h"
#include "kernel_case.h"
#include "oracle.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// A function, its parameters, and where it is tried: around `kinks` and in [low, high].
struct Function {
  Unary unary;
  const char* name;
  double alpha, beta, low, high;
  // Error of a value relative to |f| and to the terms that cancel in it, for orders 0, 1 and 2.
  double floor[3];
  std::vector<double> kinks;
};

const std::vector<Function>& functions() {
  static const std::vector<Function> all = {
      {Unary::identity, "identity", 0, 0, -3, 3, {}, {}},
      {Unary::affine, "affine", -1.5, 0.25, -3, 3, {5, 0, 0}, {}},
      {Unary::relu, "relu", 0, 0, -3, 3, {}, {0}},
      {Unary::leaky_relu, "leaky_relu", 0.125, 0, -3, 3, {}, {0}},
      {Unary::elu, "elu", 1.5, 0, -6, 3, {}, {0}},
      {Unary::sigmoid, "sigmoid", 0, 0, -30, 30, {0, 0, 0.3}, {}},
      {Unary::hard_sigmoid, "hard_sigmoid", 0.2, 0.5, -4, 4, {1, 0, 0}, {-2.5, 2.5}},
      {Unary::tanh, "tanh", 0, 0, -6, 6, {}, {}},
      {Unary::gelu, "gelu", 0, 0, -6, 6, {6, 2, 1}, {}},
      {Unary::gelu_tanh, "gelu_tanh", 0, 0, -6, 6, {6, 4, 6}, {}},
      {Unary::silu, "silu", 0, 0, -12, 12, {0, 1, 1}, {}},
      {Unary::hard_swish, "hard_swish", 0, 0, -5, 5, {4, 1, 0}, {-3, 3}},
      {Unary::mish, "mish", 0, 0, -12, 12, {0, 1, 1}, {}},
      {Unary::softplus, "softplus", 0, 0, -20, 20, {}, {}},
      {Unary::softsign, "softsign", 0, 0, -5, 5, {}, {0}},
      {Unary::clip, "clip", -1, 1.5, -3, 3, {}, {-1, 1.5}},
      {Unary::abs, "abs", 0, 0, -3, 3, {}, {0}},
      {Unary::sqrt, "sqrt", 0, 0, 0.001, 9, {}, {}},
      {Unary::pow, "pow 2", 2, 0, -3, 3, {}, {}},
      {Unary::pow, "pow 3", 3, 0, -3, 3, {}, {}},
      {Unary::pow, "pow 1", 1, 0, -3, 3, {}, {}},
      {Unary::pow, "pow 0", 0, 0, -3, 3, {}, {}},
      {Unary::pow, "pow 0.5", 0.5, 0, 0.01, 9, {}, {}},
      {Unary::pow, "pow -0.5", -0.5, 0, 0.01, 9, {}, {}},
      {Unary::pow, "pow -1", -1, 0, 0.1, 9, {}, {}},
      {Unary::pow, "pow 1.75", 1.75, 0, 0.01, 9, {}, {}},
      {Unary::exp, "exp", 0, 0, -80, 80, {}, {}},
      {Unary::log, "log", 0, 0, 0.01, 50, {}, {}},
      {Unary::erf, "erf", 0, 0, -2.5, 2.5, {}, {}},
      {Unary::reciprocal, "reciprocal", 0, 0, 0.1, 20, {}, {}},
  };
  return all;
}

Instruction unary_step(const Function& f, int order, int32_t a, int32_t b) {
  return {Code::unary, f.unary, static_cast<uint8_t>(order), a, b, -1, f.alpha, f.beta};
}
Instruction step(Code code, int32_t a, int32_t b, int32_t c = -1) { return {code, Unary::identity, 0, a, b, c, 0, 0}; }

Tensor broadcast(const Tensor& x, const Dims& to) {
  return {x.data, x.dtype, to, broadcast_strides(x.dims, x.strides, to)};
}

// The backend's f^(order)(x) b on a few values.
std::vector<double> apply(DType dtype, const Function& f, int order, const std::vector<double>& x, double b) {
  const Dims dims{static_cast<int64_t>(x.size())};
  const DeviceValues at(x, dtype), factor(Values(x.size(), b), dtype), result(x.size(), dtype);
  const Tensor inputs[] = {dense_tensor(at.data(), dtype, dims), dense_tensor(factor.data(), dtype, dims)};
  const Tensor outputs[] = {dense_tensor(result.data(), dtype, dims)};
  const ElementwiseProgram program{2, {unary_step(f, order, 0, order == 0 ? -1 : 1)}, {2}};
  tested_backend()->elementwise(program, inputs, outputs);
  return result.read();
}

bool near_kink(const Function& f, double x, double distance) {
  for (const double kink : f.kinks) {
    if (std::abs(x - kink) < distance) return true;
  }
  return false;
}

// Runs a body on every instruction set, or once on another device.
template <class Body>
void on_each_isa(Body body) {
  if (tested_device() != "cpu") return body();
  const cpu::Isa before = cpu::current_isa();
  for (const cpu::Isa isa : cpu::all_isas) {
    if (isa > cpu::best_isa()) continue;
    cpu::set_isa(isa);
    body();
  }
  cpu::set_isa(before);
}

}  // namespace

SWEEP(unary_cases) {
  for (const Function& f : functions()) {
    for (int order = 0; order <= 2; ++order) {
      add_kernel_case(
          std::string("unary ") + f.name + " order " + std::to_string(order),
          [=](Backend& backend, Stage& stage) {
            const Dims dims{3, 1117};
            const Tensor inputs[] = {stage.input(dims, Layout::row_major, {f.low, f.high, {}}), stage.input(dims)};
            // b is within 1 in size, so that the floor holds for the product too.
            const Tensor outputs[] = {stage.output(dims, ulps(10, f.floor[order]))};
            backend.elementwise({2, {unary_step(f, order, 0, order == 0 ? -1 : 1)}, {2}}, inputs, outputs);
          },
          false, false);
    }
  }
}

// InputValues and derivatives hang together: order 1 against central differences of order 0, order 2 against those of
// order 1.
TEST(unary_derivatives_match_central_differences) {
  on_each_isa([] {
    for (const Function& f : functions()) {
      const double h = 1e-5;
      std::vector<double> x, left, right;
      for (int i = 1; i < 200; ++i) {
        const double at = std::max(f.low, -8.0) + (std::min(f.high, 8.0) - std::max(f.low, -8.0)) * i / 200;
        if (near_kink(f, at, 2 * h) || at - h <= f.low) continue;
        x.push_back(at), left.push_back(at - h), right.push_back(at + h);
      }
      CHECK(x.size() > 150);
      for (int order = 1; order <= 2; ++order) {
        const std::vector<double> derivative = apply(DType::f64, f, order, x, 1.0);
        const std::vector<double> low = apply(DType::f64, f, order - 1, left, 1.0);
        const std::vector<double> high = apply(DType::f64, f, order - 1, right, 1.0);
        for (size_t i = 0; i < x.size(); ++i) {
          // The difference's error is h^2/6 f''' and eps f / h; near 0 the powers' and log's third derivatives are
          // large.
          const double scale = 1 + std::abs(low[i]) + std::abs(derivative[i]) / std::min(1.0, x[i] * x[i] + 1e-3);
          CHECK_NEAR(derivative[i], (high[i] - low[i]) / (2 * h), 1e-8 * scale);
        }
      }
    }
  });
}

TEST(derivatives_at_kinks_are_pytorchs) {
  struct Row {
    Unary unary;
    double alpha, beta, x, first, second;
  };
  const Row rows[] = {
      {Unary::relu, 0, 0, 0, 0, 0},
      {Unary::relu, 0, 0, 1e-30, 1, 0},
      {Unary::leaky_relu, 0.25, 0, 0, 0.25, 0},
      {Unary::abs, 0, 0, 0, 0, 0},
      {Unary::abs, 0, 0, -2, -1, 0},
      {Unary::clip, -1, 2, -1, 1, 0},
      {Unary::clip, -1, 2, 2, 1, 0},
      {Unary::clip, -1, 2, 2.5, 0, 0},
      {Unary::elu, 1.5, 0, 0, 1.5, 1.5},
      {Unary::hard_sigmoid, 0.25, 0.5, -2, 0, 0},
      {Unary::hard_sigmoid, 0.25, 0.5, 2, 0, 0},
      {Unary::hard_swish, 0, 0, 3, 1, 0},
      {Unary::hard_swish, 0, 0, -3, 0, 0},
      {Unary::pow, 0, 0, 0, 0, 0},
      {Unary::pow, 1, 0, 0, 1, 0},
      {Unary::pow, 2, 0, 0, 0, 2},
      {Unary::softsign, 0, 0, 0, 1, 0},
  };
  on_each_isa([&] {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const Row& row : rows) {
        const Function f{row.unary, "", row.alpha, row.beta, 0, 0, {}, {}};
        const std::vector<double> x(19, row.x);  // whole vectors and a tail
        for (const double y : apply(dtype, f, 1, x, 1)) CHECK(y == row.first);
        for (const double y : apply(dtype, f, 2, x, 1)) CHECK(y == row.second);
      }
    }
  });
}

TEST(special_values_pass_as_in_pytorch) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  struct Row {
    Unary unary;
    double alpha, beta, x, y;
  };
  const Row rows[] = {
      {Unary::relu, 0, 0, nan, nan},
      {Unary::leaky_relu, 0.1, 0, nan, nan},
      {Unary::clip, -1, 1, nan, nan},
      {Unary::relu, 0, 0, infinity, infinity},
      {Unary::clip, -1, 1, infinity, 1},
      {Unary::clip, -1, 1, -infinity, -1},
      {Unary::exp, 0, 0, nan, nan},
      {Unary::exp, 0, 0, infinity, infinity},
      {Unary::exp, 0, 0, -infinity, 0},
      {Unary::exp, 0, 0, -800, 0},
      {Unary::exp, 0, 0, 800, infinity},
      {Unary::log, 0, 0, 0, -infinity},
      {Unary::log, 0, 0, -1, nan},
      {Unary::log, 0, 0, infinity, infinity},
      {Unary::log, 0, 0, nan, nan},
      {Unary::log, 0, 0, 1, 0},
      {Unary::tanh, 0, 0, infinity, 1},
      {Unary::tanh, 0, 0, -infinity, -1},
      {Unary::tanh, 0, 0, nan, nan},
      {Unary::erf, 0, 0, infinity, 1},
      {Unary::erf, 0, 0, -infinity, -1},
      {Unary::erf, 0, 0, nan, nan},
      {Unary::sigmoid, 0, 0, infinity, 1},
      {Unary::sigmoid, 0, 0, -infinity, 0},
      {Unary::sigmoid, 0, 0, nan, nan},
      {Unary::sigmoid, 0, 0, -800, 0},
      {Unary::softplus, 0, 0, 800, 800},
      {Unary::softplus, 0, 0, -800, 0},
      {Unary::softplus, 0, 0, nan, nan},
      {Unary::mish, 0, 0, 500, 500},
      {Unary::mish, 0, 0, nan, nan},
      {Unary::silu, 0, 0, nan, nan},
      {Unary::gelu, 0, 0, nan, nan},
      {Unary::gelu_tanh, 0, 0, nan, nan},
      {Unary::elu, 1, 0, nan, nan},
      {Unary::elu, 1, 0, -infinity, -1},
      {Unary::hard_sigmoid, 0.2, 0.5, nan, nan},
      {Unary::hard_swish, 0, 0, nan, nan},
      {Unary::sqrt, 0, 0, -1, nan},
      {Unary::sqrt, 0, 0, 0, 0},
      {Unary::reciprocal, 0, 0, 0, infinity},
      {Unary::pow, 0.5, 0, 0, 0},
      {Unary::pow, 0.5, 0, -1, nan},
      {Unary::pow, -0.5, 0, 0, infinity},
      {Unary::pow, 0, 0, nan, 1},
      {Unary::pow, 2, 0, nan, nan},
      {Unary::softsign, 0, 0, nan, nan},
      {Unary::abs, 0, 0, -infinity, infinity},
  };
  on_each_isa([&] {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const Row& row : rows) {
        const Function f{row.unary, "", row.alpha, row.beta, 0, 0, {}, {}};
        for (const double y : apply(dtype, f, 0, std::vector<double>(19, row.x), 1)) {
          if (!(std::isnan(row.y) ? std::isnan(y) : y == row.y)) {
            failed(__FILE__, __LINE__,
                   "function " + std::to_string(static_cast<int>(row.unary)) + " of " + std::to_string(row.x) +
                       ": got " + std::to_string(y));
          } else {
            passed();
          }
        }
      }
    }
  });
}

TEST(the_absolute_value_of_negative_zero_is_zero) {
  on_each_isa([&] {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const double y : apply(dtype, {Unary::abs, "", 0, 0, 0, 0, {}, {}}, 0, std::vector<double>(21, -0.0), 1)) {
        CHECK(y == 0 && !std::signbit(y));
      }
    }
  });
}

TEST(a_closed_gate_lets_no_nan_of_the_other_factor_pass) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  on_each_isa([&] {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const Function& f :
           {Function{Unary::relu, "", 0, 0, 0, 0, {}, {}}, Function{Unary::clip, "", 0, 1, 0, 0, {}, {}},
            Function{Unary::hard_sigmoid, "", 1, 0, 0, 0, {}, {}}}) {
        for (const double y : apply(dtype, f, 1, std::vector<double>(21, -1.0), nan)) CHECK(y == 0);
      }
    }
  });
}

SWEEP(instruction_cases) {
  const struct {
    Code code;
    const char* name;
    bool three;
  } codes[] = {{Code::add, "add", false},         {Code::sub, "sub", false},
               {Code::mul, "mul", false},         {Code::div, "div", false},
               {Code::mul_add, "mul_add", true},  {Code::where, "where", true},
               {Code::greater, "greater", false}, {Code::greater_or_equal, "greater_or_equal", false},
               {Code::equal, "equal", false}};
  for (const auto& row : codes) {
    add_kernel_case(
        std::string("instruction ") + row.name,
        [=](Backend& backend, Stage& stage) {
          const Dims dims{2050};
          const InputValues ties{0, 0, {0.5, -1, 2, 0.25, 2, 1, -3, 0.0, 1.5, 0.75, -0.5}};
          const InputValues others{0, 0, {0.5, 1, 2, 0.75, -2, 1, -3}};
          const bool where = row.code == Code::where;
          const Tensor inputs[] = {stage.input(dims, Layout::row_major, ties),
                                   stage.input(dims, Layout::row_major, others), stage.input(dims)};
          const Tensor outputs[] = {stage.output(dims, where ? Allowance{} : ulps(2, 8))};
          backend.elementwise({3, {step(row.code, 0, 1, row.three ? 2 : -1)}, {3}}, inputs, outputs);
        },
        false, row.code != Code::equal && row.code != Code::greater);
  }
}

SWEEP(program_cases) {
  struct Row {
    Dims dims;
    Layout layout;
  };
  const Row rows[] = {{{4, 33, 7, 5}, Layout::channels_last}, {{4, 33, 7, 5}, Layout::row_major},
                      {{3, 5, 1, 1500}, Layout::row_major},   {{2, 1500, 3, 1}, Layout::channels_last},
                      {{1, 1, 1, 1}, Layout::row_major},      {{7, 1, 3, 11}, Layout::channels_last},
                      {{2, 0, 3, 4}, Layout::row_major},      {{40, 64, 9, 3}, Layout::channels_last}};
  for (const Row& r : rows) {
    const std::string name = to_string(r.dims) + (r.layout == Layout::channels_last ? " last" : "");
    const bool telling = element_count(r.dims) > 0;
    // Bias, normalisation and activation with two results; the channel vectors, a scalar and a row scalar broadcast.
    add_kernel_case(
        "program " + name,
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(r.dims, r.layout), channel = stage.input({r.dims[1], 1, 1});
          const Tensor scalar = stage.input({}), row = stage.input({r.dims[0], 1, 1, 1});
          const Tensor plane = stage.input({r.dims[2], r.dims[3]});
          const Tensor inputs[] = {x, broadcast(channel, r.dims), broadcast(scalar, r.dims), broadcast(row, r.dims),
                                   broadcast(plane, r.dims)};
          const Function tanh{Unary::tanh, "", 0, 0, 0, 0, {}, {}};
          const ElementwiseProgram program{
              5,
              {step(Code::mul_add, 0, 1, 2), step(Code::mul, 5, 3), unary_step(tanh, 0, 6, -1), step(Code::add, 7, 4),
               unary_step(tanh, 1, 6, 8), step(Code::sub, 9, 0)},
              {10, 8}};
          const Tensor outputs[] = {stage.output(r.dims, ulps(20, 4), r.layout),
                                    stage.output(r.dims, ulps(20, 4), r.layout)};
          backend.elementwise(program, inputs, outputs);
        },
        false, telling);
    // The result over its first input, which a later instruction reads again.
    add_kernel_case(
        "program in place " + name,
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(r.dims, r.layout), y = stage.input(r.dims, r.layout);
          const Tensor inputs[] = {x, y};
          const ElementwiseProgram program{2, {step(Code::add, 0, 1), step(Code::mul, 0, 2)}, {2, 3}};
          const Tensor outputs[] = {stage.in_place(x, ulps(4, 2)), stage.in_place(y, ulps(8, 2))};
          backend.elementwise(program, inputs, outputs);
        },
        false, telling);
    // Other strides for input and output: a permuted input, an output with gaps.
    add_kernel_case(
        "program strided " + name,
        [=](Backend& backend, Stage& stage) {
          const Dims& d = r.dims;
          const Tensor x = stage.input(d, {1, d[0], d[0] * d[1], d[0] * d[1] * d[2]});
          const Tensor inputs[] = {x, stage.input(d, r.layout)};
          const ElementwiseProgram program{2, {step(Code::sub, 0, 1)}, {2, 0}};
          const int64_t channels = d[1] + 3;
          const Dims gaps{channels * d[2] * d[3], 1, channels * d[3], channels};
          const Tensor outputs[] = {stage.output(d, gaps, ulps(2, 2)), stage.output(d, {}, r.layout)};
          backend.elementwise(program, inputs, outputs);
        },
        false, telling);
  }
}

TEST(programs_that_make_no_sense_are_refused) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  float x[4] = {}, y[4] = {};
  const Tensor in[] = {dense_tensor(x, DType::f32, {4})}, out[] = {dense_tensor(y, DType::f32, {4})};
  const Tensor wide[] = {dense_tensor(x, DType::f64, {2})}, shorter[] = {dense_tensor(x, DType::f32, {3})};
  CHECK_THROWS(ErrorCode::internal, backend->elementwise({1, {step(Code::add, 0, 1)}, {1}}, in, out));
  CHECK_THROWS(ErrorCode::internal, backend->elementwise({2, {step(Code::add, 0, 0)}, {1}}, in, out));
  CHECK_THROWS(ErrorCode::internal, backend->elementwise({1, {step(Code::add, 0, 0)}, {2}}, in, out));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->elementwise({1, {step(Code::add, 0, 0)}, {1}}, wide, out));
  CHECK_THROWS(ErrorCode::shape, backend->elementwise({1, {step(Code::add, 0, 0)}, {1}}, shorter, out));
}
