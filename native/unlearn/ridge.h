// The closed form of the last linear layer: solution, certificate and shaped noise from one f x f Cholesky factor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "unlearn/chacha20.h"
#include "unlearn/ridge_statistics.h"

namespace palimpsest {

// Upper bounds that hold for the exact sums over the rows, whatever the sums in memory lost: drift, rounding of the
// evaluation and the bounds' own rounding are included. H = (1/n) A + mu I, acting on every output alike.
struct RidgeCertificate {
  double residual;   // |rho|_F, rho = (1/n) (A W + M) + mu W
  double distance;   // |W - W*|_F, W* the exact minimiser: distance / s is D for noise N(0, s^2 I)
  double energy;     // E = tr (W - W*)^T H (W - W*): sqrt(E) / s is D for noise N(0, s^2 H^-1)
  double allowance;  // the part of |rho|_F that drift and rounding may account for
};

// The problem 1/(2n) sum |r0 + W^T phi|^2 + mu/2 |W|^2 over the rows that the statistics hold now, W [f, K] row-major.
class RidgeSolver {
 public:
  // Factors (1/n) A + mu I = L L^T, f^3/3 multiply-adds. mu > 0; throws ERR_INVALID_ARGUMENT without rows, or where mu
  // is lost beside A in float64.
  RidgeSolver(const RidgeStatistics& statistics, double mu);

  // W = -H^-1 M/n, refined with residuals in twice the working precision until nothing is gained.
  std::vector<double> solve() const;

  // rho = (1/n) (A W + M) + mu W at the sums in memory, each entry to about 2^-52 (|A W + M|/n + mu |W|).
  std::vector<double> residual(std::span<const double> w) const;

  // With y near H^-1 rho and t = rho - H y: |W - W*| <= |y| + |t|/mu and sqrt(E) <= sqrt(y^T H y) + |t|/sqrt(mu), for
  // any y; |t| takes up what is not known of rho and H. E is exact to float64 as long as the allowance is small.
  RidgeCertificate certify(std::span<const double> w) const;

  // out [f, K] := scale L^-T z with z ~ N(0, 1) from the key's streams from `stream` on: covariance scale^2 (L L^T)^-1
  // for every output. Returns the first stream that was not used.
  uint64_t sample(const SecretKey& key, uint64_t stream, double scale, std::span<double> out) const;

  // Bounds the KL divergence, in either direction and at any scale, between noise of covariance (L L^T)^-1 and of the
  // exact H^-1: the factor is of sums that drifted, and is rounded. Infinite where nothing can be said.
  double covariance_nats() const;

  int64_t rows() const { return rows_; }
  int64_t features() const { return features_; }
  int64_t outputs() const { return outputs_; }
  double mu() const { return mu_; }

 private:
  struct Product;  // (1/n) A x + mu x (+ M/n) and a bound on its rounding
  Product apply(std::span<const double> x, bool with_cross) const;
  void require_weights(size_t size) const;

  int64_t features_, outputs_, rows_;
  double mu_;
  std::vector<double> gram_, cross_, factor_;
  double gram_norm_, gram_drift_, cross_drift_;
};

}  // namespace palimpsest
