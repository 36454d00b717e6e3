// Scalar functions and their first and second derivatives by formula, in float64.
#include <cmath>
#include <limits>

#include "oracle.h"

namespace palimpsest::check {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }
double cumulative(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double choose(int order, double f, double d1, double d2) { return order == 0 ? f : order == 1 ? d1 : d2; }

double gelu_tanh(int order, double x) {
  const double k = std::sqrt(2 / M_PI), c = 0.044715;
  const double u = k * (x + c * x * x * x), du = k * (1 + 3 * c * x * x), ddu = k * 6 * c * x;
  const double t = std::tanh(u), dt = 1 / (std::cosh(u) * std::cosh(u));
  return choose(order, x / 2 * (1 + t), (1 + t) / 2 + x / 2 * dt * du,
                dt * du + x / 2 * (dt * ddu - 2 * t * dt * du * du));
}

double mish(int order, double x) {
  const double p = std::log1p(std::exp(x)), t = std::tanh(p), s = sigmoid(x);
  const double dt_dp = 1 / (std::cosh(p) * std::cosh(p));
  const double dt = dt_dp * s, ddt = -2 * t * dt_dp * s * s + dt_dp * s * (1 - s);
  return choose(order, x * t, t + x * dt, 2 * dt + x * ddt);
}

double power(int order, double x, double a) {
  if (order == 0) return std::pow(x, a);
  if (order == 1) return a == 0 ? 0 : a * std::pow(x, a - 1);
  return a == 0 || a == 1 ? 0 : a * (a - 1) * std::pow(x, a - 2);
}

}  // namespace

double oracle_unary(Unary unary, int order, double x, double a, double b) {
  const auto of = [order](double f, double d1, double d2) { return choose(order, f, d1, d2); };
  if (std::isnan(x) && order == 0) return x;
  const double s = sigmoid(x), e = std::exp(x), r = 1 / (1 + std::abs(x));
  switch (unary) {
    case Unary::identity: return of(x, 1, 0);
    case Unary::affine: return of(a * x + b, a, 0);
    case Unary::relu: return of(x > 0 ? x : 0, x > 0 ? 1 : 0, 0);
    case Unary::leaky_relu: return of(x > 0 ? x : a * x, x > 0 ? 1 : a, 0);
    case Unary::elu: return of(x > 0 ? x : a * std::expm1(x), x > 0 ? 1 : a * e, x > 0 ? 0 : a * e);
    case Unary::sigmoid: return of(s, s * sigmoid(-x), s * sigmoid(-x) * (1 - 2 * s));
    case Unary::hard_sigmoid: {
      const double line = a * x + b;
      return of(line <= 0 ? 0 : line >= 1 ? 1 : line, line > 0 && line < 1 ? a : 0, 0);
    }
    case Unary::tanh: {
      const double t = std::tanh(x), d = 1 / (std::cosh(x) * std::cosh(x));
      return of(t, d, -2 * t * d);
    }
    case Unary::gelu: return of(x * cumulative(x), cumulative(x) + x * density(x), density(x) * (2 - x * x));
    case Unary::gelu_tanh: return gelu_tanh(order, x);
    case Unary::silu: {
      const double d = s * sigmoid(-x);
      return of(x * s, s + x * d, d * (2 + x * (1 - 2 * s)));
    }
    case Unary::hard_swish:
      return of(x <= -3  ? 0
                : x >= 3 ? x
                         : x * (x + 3) / 6,
                x <= -3  ? 0
                : x >= 3 ? 1
                         : x / 3 + 0.5,
                x > -3 && x < 3 ? 1 / 3.0 : 0);
    case Unary::mish: return mish(order, x);
    case Unary::softplus: return of(x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(e), s, s * sigmoid(-x));
    case Unary::softsign: return of(x * r, r * r, x > 0 ? -2 * r * r * r : x < 0 ? 2 * r * r * r : 0);
    case Unary::clip: return of(x < a ? a : x > b ? b : x, x >= a && x <= b ? 1 : 0, 0);
    case Unary::abs: return of(std::abs(x), x > 0 ? 1 : x < 0 ? -1 : 0, 0);
    case Unary::sqrt: return of(std::sqrt(x), 0.5 / std::sqrt(x), -0.25 / (x * std::sqrt(x)));
    case Unary::pow: return power(order, x, a);
    case Unary::exp: return e;
    case Unary::log: return of(std::log(x), 1 / x, -1 / (x * x));
    case Unary::erf: {
      const double d = 2 / std::sqrt(M_PI) * std::exp(-x * x);
      return of(std::erf(x), d, -2 * x * d);
    }
    case Unary::reciprocal: return of(1 / x, -1 / (x * x), 2 / (x * x * x));
    case Unary::count_: break;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace palimpsest::check
