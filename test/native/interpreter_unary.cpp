// Unary rows and their derivatives by Taylor arithmetic of second order.
#include "interpreter_unary.h"

#include <cmath>
#include <stdexcept>

namespace palimpsest::check {

namespace {

// A value with its first and second derivative along x.
struct Jet {
  double v, d = 0, dd = 0;
  Jet(double value) : v(value) {}
  Jet(double value, double first, double second) : v(value), d(first), dd(second) {}
};

Jet operator+(Jet a, Jet b) { return {a.v + b.v, a.d + b.d, a.dd + b.dd}; }
Jet operator-(Jet a, Jet b) { return {a.v - b.v, a.d - b.d, a.dd - b.dd}; }
Jet operator*(Jet a, Jet b) { return {a.v * b.v, a.d * b.v + a.v * b.d, a.dd * b.v + 2 * a.d * b.d + a.v * b.dd}; }

// g(a) of a scalar g with derivatives g1, g2 at a.
Jet chain(Jet a, double g, double g1, double g2) { return {g, g1 * a.d, g2 * a.d * a.d + g1 * a.dd}; }

Jet exp(Jet a) { return chain(a, std::exp(a.v), std::exp(a.v), std::exp(a.v)); }
Jet log(Jet a) { return chain(a, std::log(a.v), 1 / a.v, -1 / (a.v * a.v)); }
Jet inverse(Jet a) { return chain(a, 1 / a.v, -1 / (a.v * a.v), 2 / (a.v * a.v * a.v)); }
Jet pow(Jet a, double e) {
  return chain(a, std::pow(a.v, e), e == 0 ? 0 : e * std::pow(a.v, e - 1),
               e == 0 || e == 1 ? 0 : e * (e - 1) * std::pow(a.v, e - 2));
}
Jet erf(Jet a) {
  const double slope = 2 / std::sqrt(std::acos(-1.0)) * std::exp(-a.v * a.v);
  return chain(a, std::erf(a.v), slope, -2 * a.v * slope);
}

Jet sigmoid(Jet x) { return inverse(Jet(1) + exp(Jet(0) - x)); }
Jet tanh(Jet x) { return Jet(2) * sigmoid(Jet(2) * x) - Jet(1); }
Jet softplus(Jet x) { return log(Jet(1) + exp(x)); }

Jet apply(Op op, double alpha, double beta, Jet x) {
  const double v = x.v;
  switch (op) {
    case Op::Relu: return v > 0 ? x : Jet(0);
    case Op::LeakyRelu: return v > 0 ? x : Jet(alpha) * x;
    case Op::Elu: return v > 0 ? x : Jet(alpha) * (exp(x) - Jet(1));
    case Op::Sigmoid: return sigmoid(x);
    case Op::HardSigmoid: {
      const Jet line = Jet(alpha) * x + Jet(beta);
      return line.v <= 0 ? Jet(0) : line.v >= 1 ? Jet(1) : line;
    }
    case Op::Tanh: return tanh(x);
    case Op::Gelu: return Jet(0.5) * x * (Jet(1) + erf(Jet(std::sqrt(0.5)) * x));
    case Op::GeluTanh: {
      const Jet u = Jet(std::sqrt(2 / std::acos(-1.0))) * (x + Jet(0.044715) * x * x * x);
      return Jet(0.5) * x * (Jet(1) + tanh(u));
    }
    case Op::Silu: return x * sigmoid(x);
    case Op::HardSwish: return v <= -3 ? Jet(0) : v >= 3 ? x : x * (x + Jet(3)) * Jet(1.0 / 6);
    case Op::Mish: return x * tanh(softplus(x));
    case Op::Softplus: return softplus(x);
    case Op::Softsign: return x * inverse(Jet(1) + (v < 0 ? Jet(0) - x : x));
    case Op::Clip: return v < alpha ? Jet(alpha) : v > beta ? Jet(beta) : x;
    case Op::Abs: return v > 0 ? x : v < 0 ? Jet(0) - x : Jet(0);
    case Op::Sqrt: return pow(x, 0.5);
    case Op::Pow: return pow(x, alpha);
    case Op::Exp: return exp(x);
    case Op::Log: return log(x);
    case Op::Erf: return erf(x);
    case Op::Reciprocal: return inverse(x);
    case Op::Affine: return Jet(alpha) * x + Jet(beta);
    default: throw std::logic_error("not a unary row");
  }
}

}  // namespace

bool is_unary_row(Op op) {
  switch (op) {
#define PALIMPSEST_CASE(name) case Op::name:
    PALIMPSEST_UNARY_OPERATORS(PALIMPSEST_CASE)
#undef PALIMPSEST_CASE
    return true;
    default: return false;
  }
}

double unary_derivative(Op op, double alpha, double beta, double x, int order) {
  const Jet y = apply(op, alpha, beta, Jet(x, 1, 0));
  return order == 0 ? y.v : order == 1 ? y.d : y.dd;
}

}  // namespace palimpsest::check
