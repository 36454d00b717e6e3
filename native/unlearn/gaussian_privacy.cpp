// The exact Gaussian (epsilon, delta) curve in a form that neither overflows nor cancels, and its inverses.
#include "unlearn/gaussian_privacy.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "core/error.h"

namespace palimpsest {
namespace {

constexpr double kHalfLogTwoPi = 0.91893853320467274178;
constexpr double kSqrtHalfPi = 1.25331413731550025121;
constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kExactFrom = 1e-290;  // the rounding of a smaller product is not a double itself

void require(bool holds, const char* expected, double value) {
  if (holds) return;
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  throw Error(ErrorCode::invalid_argument, std::string(expected) + ", got " + text);
}

void require_epsilon(double epsilon) {
  require(std::isfinite(epsilon) && epsilon >= 0, "expected a finite epsilon >= 0", epsilon);
}

void require_distance(double distance) {
  require(std::isfinite(distance) && distance >= 0, "expected a finite distance D >= 0", distance);
}

void require_delta(double delta) {
  require(delta > 0 && delta < 1, "expected delta between 0 and 1 (exclusive)", delta);
}

void require_nats(double nats) { require(std::isfinite(nats) && nats >= 0, "expected finite nats >= 0", nats); }

// From here on R(x) comes from Laplace's continued fraction: there e^(x^2/2) erfc(x/sqrt 2) would multiply the
// rounding of its arguments by x^2, and 1 - x R(x) would cancel.
constexpr double kFractionFrom = 3.0;

// t_1 = x + 2/(x + 3/(x + 4/(x + ...))), so that R(x) = t_1/(x t_1 + 1) and 1 - x R(x) = 1/(x t_1 + 1); x >= 3.
double mills_fraction(double x) {
  const int terms = x < 8 ? 80 : 24;
  double tail = 0.5 * (x + std::sqrt(x * x + 4.0 * (terms + 1)));
  for (int k = terms; k >= 2; --k) tail = x + k / tail;
  return tail;
}

// Mills' ratio R(x) = Phi(-x)/phi(x), x > -2.
double mills_ratio(double x) {
  if (x < kFractionFrom) return kSqrtHalfPi * std::exp(0.5 * x * x) * std::erfc(x * kSqrtHalf);
  const double t = mills_fraction(x);
  return 1.0 / (x + 1.0 / t);
}

// M(x) = 1 - x R(x) = -R'(x), x > -2.
double mills_slope(double x) {
  if (x < kFractionFrom) return 1.0 - x * mills_ratio(x);
  return 1.0 / (x * mills_fraction(x) + 1.0);
}

// R(t - D/2) - R(t + D/2) as the integral of M over D, by 8-point Gauss-Legendre: no cancellation however small D is.
double mills_difference(double t, double distance) {
  constexpr double node[4] = {0.18343464249564980494, 0.52553240991632898582, 0.79666647741362673959,
                              0.96028985649753623168};
  constexpr double weight[4] = {0.36268378337836198297, 0.31370664587788728734, 0.22238103445337447054,
                                0.10122853629037625915};
  const double half = 0.5 * distance;
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += weight[i] * (mills_slope(t - half * node[i]) + mills_slope(t + half * node[i]));
  return half * sum;
}

bool within(double epsilon, double distance, double log_limit) {
  const double value = log_delta(epsilon, distance);
  return value + log_delta_error(value) <= log_limit;
}

}  // namespace

double log_delta(double epsilon, double distance) {
  require_epsilon(epsilon);
  require_distance(distance);
  if (distance == 0) return -kInfinity;
  const double t = epsilon / distance;
  if (t - 0.5 * distance > 1e150) return -kInfinity;  // below -1e299, and t * t would overflow
  // c = t - D/2 may cancel, so the rounding of the quotient is put back.
  const double c = (t - 0.5 * distance) + std::fma(-t, distance, epsilon) / distance;
  const double upper = t + 0.5 * distance;
  const double log_phi = -0.5 * c * c - kHalfLogTwoPi;
  if (distance < 0.5) return log_phi + std::log(mills_difference(t, distance));
  if (c > -1) return log_phi + std::log(mills_ratio(c) - mills_ratio(upper));
  // delta is above 0.6: take it from its complement.
  return std::log1p(-(0.5 * std::erfc(-c * kSqrtHalf) + std::exp(log_phi) * mills_ratio(upper)));
}

double log_delta_error(double value) { return std::isinf(value) ? 0.0 : 1e-14 * (1.0 + std::fabs(value)); }

double delta_of(double epsilon, double distance) {
  const double value = log_delta(epsilon, distance);
  if (std::isinf(value)) return 0;
  const double delta = std::exp(value + log_delta_error(value));
  return std::min(1.0, std::nextafter(delta, kInfinity));
}

double epsilon_of(double distance, double delta) {
  require_distance(distance);
  require_delta(delta);
  const double log_limit = std::log(delta);
  if (within(0, distance, log_limit)) return 0;
  double low = 0;
  // Here c = sqrt(2 ln(1/delta)), so delta(epsilon; D) <= Phi(-c) <= delta/2.
  double high = (0.5 * distance * distance + distance * std::sqrt(-2.0 * log_limit)) * (1.0 + 1e-14);
  while (!within(high, distance, log_limit)) high *= 1.0 + 1e-6;
  for (;;) {
    const double middle = low + 0.5 * (high - low);
    if (middle <= low || middle >= high) return high;
    (within(middle, distance, log_limit) ? high : low) = middle;
  }
}

double distance_of(double epsilon, double delta) {
  require_epsilon(epsilon);
  require_delta(delta);
  const double log_limit = std::log(delta);
  double high = std::sqrt(2.0 * epsilon) + 40.0;  // c < -20: delta(epsilon; D) is 1 in double precision
  double low = 0.5 * high;
  while (low > 0 && !within(epsilon, low, log_limit)) {
    high = low;
    low *= 0.5;
  }
  for (;;) {
    const double middle = low + 0.5 * (high - low);
    if (middle <= low || middle >= high) return low;
    (within(epsilon, middle, log_limit) ? low : high) = middle;
  }
}

double nats_of(double distance) {
  require_distance(distance);
  const double nats = 0.5 * distance * distance;
  if (nats < kExactFrom) return distance > 0 ? kExactFrom : 0;
  return std::fma(distance, distance, -2.0 * nats) > 0 ? std::nextafter(nats, kInfinity) : nats;
}

double distance_of_nats(double nats) {
  require_nats(nats);
  const double distance = std::sqrt(2.0 * nats);
  if (nats < kExactFrom) return std::nextafter(distance, 0.0);
  return std::fma(distance, distance, -2.0 * nats) > 0 ? std::nextafter(distance, 0.0) : distance;
}

double advantage(double nats) {
  require_nats(nats);
  // A libm's sqrt is correctly rounded and its erf good to a few units in the last place.
  return std::min(1.0, std::erf(0.5 * std::sqrt(nats)) * (1.0 + 1e-15));
}

}  // namespace palimpsest
