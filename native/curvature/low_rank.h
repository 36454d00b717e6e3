// A preconditioner of low rank plus damping from the Jacobians of sampled rows, inverted by Woodbury.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace palimpsest {

// M = (theta/m) J^T J + mu I, J [r, P] float32 the Jacobians of m sampled examples, r = m K rows of P parameters.
//   M^-1 v = (v - J^T (J J^T + (m mu/theta) I)^-1 J v) / mu                                         (Woodbury)
// theta = 1 estimates the damped GGN; with theta = m/n_r and the m rows among the n_r retained ones M <= H, as a
// certificate needs it. Sums are in float64, whatever v is; the bits do not depend on the number of threads.
// With a backend, float32 vectors go through its float32 products, and the Gram matrix too where its damping is far
// above what float32 loses of it.
class LowRankPreconditioner {
 public:
  // jacobian: J row by row; r and P at least 1, 1 <= m <= r. Costs the Gram matrix J J^T, r^2 P multiply-adds.
  LowRankPreconditioner(std::vector<float> jacobian, int64_t rows, int64_t parameters, int64_t sampled,
                        std::shared_ptr<Backend> backend = nullptr);

  // Chooses theta > 0 and mu > 0; r^3/3 multiply-adds. Throws ERR_INVALID_ARGUMENT where the damped Gram matrix is not
  // positive definite in float64 (J not finite, or mu lost beside it); the earlier factor then stays.
  void factor(double theta, double mu);

  // out := M^-1 v and out := M v, both of length P; out may be v. T is float or double. Needs factor().
  template <class T>
  void apply_inverse(std::span<const T> v, std::span<T> out) const;
  template <class T>
  void apply(std::span<const T> v, std::span<T> out) const;

  // rho^T M^-1 rho as (m/theta) |a|^2 + |rho - J^T a|^2/mu, a = (J J^T + (m mu/theta) I)^-1 J rho: a is where this sum
  // of squares is least, so an error in a can only raise it, and only in second order.
  double inverse_quadratic(std::span<const double> rho) const;

  int64_t rows() const { return rows_; }
  int64_t parameters() const { return parameters_; }
  int64_t sampled() const { return sampled_; }
  double theta() const { return theta_; }
  double mu() const { return mu_; }

 private:
  void require_ready(size_t in, size_t out) const;
  void make_gram(bool narrow);
  void multiply(int64_t m, int64_t n, int64_t k, bool transposed, const float* b, float* c) const;
  void apply_inverse_narrow(std::span<const float> v, std::span<float> out) const;
  // J v [r], J^T a [P] as out := shift v + scale J^T a.
  template <class T>
  std::vector<double> jacobian_times(std::span<const T> v) const;
  template <class T>
  void transposed_times(std::span<const double> a, double scale, std::span<const T> v, double shift,
                        std::span<T> out) const;

  std::shared_ptr<const std::vector<float>> jacobian_;  // copies share it, so that several factors cost one Jacobian
  int64_t rows_, parameters_, sampled_;
  std::shared_ptr<Backend> backend_;
  std::shared_ptr<const std::vector<double>> gram_;  // J J^T, lower triangle
  bool narrow_gram_ = false;                         // summed in float32 by blocks of columns
  std::vector<double> factor_;                       // Cholesky factor of J J^T + (m mu/theta) I; empty before factor()
  double theta_ = 0, mu_ = 0;
};

}  // namespace palimpsest
