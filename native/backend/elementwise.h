// Elementwise programs: what one pass over memory computes. One kernel runs them all.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace palimpsest {

// Scalar functions f(x) with parameters alpha, beta, each with its derivatives up to order 2.
enum class Unary : uint8_t {
  identity,
  affine,        // alpha x + beta
  relu,          // max(x, 0)
  leaky_relu,    // x > 0 ? x : alpha x
  elu,           // x > 0 ? x : alpha (e^x - 1)
  sigmoid,       // 1 / (1 + e^-x)
  hard_sigmoid,  // max(0, min(1, alpha x + beta))
  tanh,
  gelu,        // x Phi(x)
  gelu_tanh,   // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  silu,        // x sigmoid(x)
  hard_swish,  // x max(0, min(1, x/6 + 1/2))
  mish,        // x tanh(softplus(x))
  softplus,    // log(1 + e^x)
  softsign,    // x / (1 + |x|)
  clip,        // min(max(x, alpha), beta)
  abs,
  sqrt,
  pow,  // x^alpha
  exp,
  log,
  erf,
  reciprocal,  // 1 / x
  count_,
};

enum class Code : uint8_t {
  unary,    // d = f^(order)(a)            with order 0
            // d = f^(order)(a) * b          with order 1 or 2
  add,      // d = a + b
  sub,      // d = a - b
  mul,      // d = a * b
  div,      // d = a / b
  mul_add,  // d = a * b + c
  where,    // d = a != 0 ? b : c
  greater,  // d = a > b ? 1 : 0
  greater_or_equal,
  equal,
  count_,
};

// One step of a program; a, b, c, and the result index registers: first the inputs, then one register an instruction.
struct Instruction {
  Code code = Code::unary;
  Unary unary = Unary::identity;
  uint8_t order = 0;
  int32_t a = -1, b = -1, c = -1;
  double alpha = 0, beta = 0;
};

struct ElementwiseProgram {
  int32_t inputs = 0;
  std::vector<Instruction> instructions;  // instruction i writes register inputs + i
  std::vector<int32_t> outputs;           // the registers that are stored
};

}  // namespace palimpsest
