// Cholesky, refinement and the certificate of the ridge problem.
#include "unlearn/ridge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "core/compensated.h"
#include "core/dense.h"
#include "core/error.h"
#include "unlearn/gaussian_sampler.h"

namespace palimpsest {
namespace {

constexpr double kUnit = 0x1p-53;
constexpr double kCover = 1 + 0x1p-30;  // for the rounding of norms and bounds themselves
constexpr int kMostRefinements = 20;

}  // namespace

struct RidgeSolver::Product {
  std::vector<double> value;
  double error;  // bounds the Frobenius norm of what rounding changed
};

RidgeSolver::RidgeSolver(const RidgeStatistics& statistics, double mu)
    : features_(statistics.features()),
      outputs_(statistics.outputs()),
      rows_(statistics.rows()),
      mu_(mu),
      gram_(statistics.gram()),
      cross_(statistics.cross()),
      gram_norm_(norm(gram_) * kCover),
      gram_drift_(statistics.gram_drift()),
      cross_drift_(statistics.cross_drift()) {
  if (!(mu > 0) || !std::isfinite(mu)) {
    char text[64];
    std::snprintf(text, sizeof text, "expected damping > 0, got %.9g", mu);
    throw Error(ErrorCode::invalid_argument, text);
  }
  if (rows_ < 1) throw Error(ErrorCode::invalid_argument, "expected at least one row, got none");
  const double n = static_cast<double>(rows_);
  factor_ = gram_;
  for (double& value : factor_) value /= n;
  for (int64_t i = 0; i < features_; ++i) factor_[static_cast<size_t>(i * features_ + i)] += mu;
  cholesky(factor_.data(), features_);
}

void RidgeSolver::require_weights(size_t size) const {
  if (size == cross_.size()) return;
  throw Error(ErrorCode::shape, "expected weights [" + std::to_string(features_) + ", " + std::to_string(outputs_) +
                                    "], got " + std::to_string(size) + " numbers");
}

RidgeSolver::Product RidgeSolver::apply(std::span<const double> x, bool with_cross) const {
  const double n = static_cast<double>(rows_);
  std::vector<double> high(x.size()), low(x.size());
  multiply_compensated(gram_.data(), features_, features_, x.data(), outputs_, high.data(), low.data());
  double squares = 0;  // of the two terms of each entry
  for (size_t i = 0; i < x.size(); ++i) {
    const double m = with_cross ? cross_[i] : 0.0;
    const double sum = high[i] + m;
    const double part = sum - high[i];
    const double rest = (high[i] - (sum - part)) + (m - part);
    const double mean = (sum + (rest + low[i])) / n;
    const double damped = mu_ * x[i];
    high[i] = mean + damped;
    squares += mean * mean + damped * damped;
  }
  // Four roundings of an entry, and what the doubled precision leaves.
  const double f = static_cast<double>(features_);
  const double doubled = 16 * f * f * kUnit * kUnit * (gram_norm_ * norm(x) + (with_cross ? norm(cross_) : 0)) / n;
  return {std::move(high), kCover * (4 * std::sqrt(2 * squares) * kUnit + doubled)};
}

std::vector<double> RidgeSolver::residual(std::span<const double> w) const {
  require_weights(w.size());
  return apply(w, true).value;
}

std::vector<double> RidgeSolver::solve() const {
  std::vector<double> w(cross_.size(), 0.0);
  double last = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kMostRefinements; ++step) {
    std::vector<double> correction = apply(w, true).value;
    cholesky_solve(factor_.data(), features_, correction.data(), outputs_);
    const double size = norm(correction);
    if (!(size < 0.5 * last)) break;
    for (size_t i = 0; i < w.size(); ++i) w[i] -= correction[i];
    if (size <= 0.25 * kUnit * norm(w)) break;
    last = size;
  }
  return w;
}

RidgeCertificate RidgeSolver::certify(std::span<const double> w) const {
  require_weights(w.size());
  const double n = static_cast<double>(rows_);
  const Product rho = apply(w, true);
  std::vector<double> y = rho.value;
  cholesky_solve(factor_.data(), features_, y.data(), outputs_);
  const Product hy = apply(y, false);
  std::vector<double> rest(y.size());
  for (size_t i = 0; i < y.size(); ++i) rest[i] = rho.value[i] - hy.value[i];

  const double rho_norm = norm(rho.value), y_norm = norm(y), w_norm = norm(w);
  const double drift = (gram_drift_ * w_norm + cross_drift_) / n;
  const double allowance = rho.error + drift;
  const double unknown = norm(rest) * (1 + kUnit) + kUnit * rho_norm + allowance + hy.error + gram_drift_ * y_norm / n;
  const double hy_norm = norm(hy.value);
  const double terms = static_cast<double>(y.size() + 8);
  const double quadratic = std::max(0.0, dot(y, hy.value)) + terms * kUnit * y_norm * hy_norm +
                           y_norm * (hy.error + gram_drift_ * y_norm / n);
  const double root = std::sqrt(quadratic) + unknown / std::sqrt(mu_);
  const RidgeCertificate bounds{kCover * (rho_norm + allowance), kCover * (y_norm + unknown / mu_),
                                kCover * root * root, kCover * allowance};
  if (!std::isfinite(bounds.energy) || !std::isfinite(bounds.distance) || !std::isfinite(bounds.residual)) {
    throw Error(ErrorCode::invalid_argument, "expected finite weights, got a certificate that is not finite");
  }
  return bounds;
}

uint64_t RidgeSolver::sample(const SecretKey& key, uint64_t stream, double scale, std::span<double> out) const {
  require_weights(out.size());
  if (!(scale > 0) || !std::isfinite(scale)) {
    char text[64];
    std::snprintf(text, sizeof text, "expected a noise scale > 0, got %.9g", scale);
    throw Error(ErrorCode::invalid_argument, text);
  }
  const uint64_t next = fill_normal(key, stream, out);
  solve_lower_transposed(factor_.data(), features_, out.data(), outputs_);
  for (double& value : out) value *= scale;
  return next;
}

double RidgeSolver::covariance_nats() const {
  // L L^T = H + F: drift, the roundings of (1/n) A + mu I, and the backward error of Cholesky, gamma_(f+1) |L|_F^2
  // (Higham 2002, Theorem 10.3). With q >= |H^-1/2 F H^-1/2|_F the eigenvalues x of H (L L^T)^-1 lie within q of 1 in
  // 1/x, and 1/2 sum (x - 1 - ln x) <= q^2/(2 (1 - q)) for q <= 1/2, the same with 1/x. Nats of a covariance count as
  // those of a mean elsewhere, which only a negligible one may: squares of the noise have heavier tails than it has,
  // and already q = 0.07 under a distance of 0.14 gives seven times the delta of such a mean at 1e-6. Up to 2^-20 what
  // that adds to epsilon stays below 1e-4, at deltas down to 1e-12.
  const double n = static_cast<double>(rows_);
  const double f = static_cast<double>(features_);
  double factor_squares = 0;
  for (int64_t i = 0; i < features_; ++i) {
    const std::span<const double> row(factor_.data() + i * features_, static_cast<size_t>(i + 1));
    factor_squares += dot(row, row);
  }
  const double rounding = 2 * kUnit * (gram_norm_ / n + mu_ * std::sqrt(f)) + (f + 2) * kUnit * factor_squares;
  const double q = kCover * (gram_drift_ / n + rounding) / mu_;
  if (!(q <= 0x1p-20)) return std::numeric_limits<double>::infinity();
  return static_cast<double>(outputs_) * q * q / (2 * (1 - q));
}

}  // namespace palimpsest
