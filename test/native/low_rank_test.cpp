// The low-rank preconditioner against a dense matrix in long double.
#include "curvature/low_rank.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "core/parallel.h"
#include "graph_run.h"

using namespace palimpsest;

namespace {

using Reals = std::vector<long double>;

struct Problem {
  int64_t rows, parameters, sampled;
  double theta, mu;
  std::vector<float> jacobian;
  std::vector<double> v;
};

// Columns and rows of falling size, so that the spectrum is wide; `repeated` makes the last half of the rows copies.
Problem make_problem(int64_t rows, int64_t parameters, int64_t sampled, double theta, double mu,
                     bool repeated = false) {
  Problem p{rows, parameters, sampled, theta, mu, {}, {}};
  std::mt19937_64 generator(uint64_t(rows * 7919 + parameters));
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < parameters; ++j) {
      const float copied = repeated && i >= rows / 2 ? p.jacobian[size_t((i - rows / 2) * parameters + j)] : 0;
      p.jacobian.push_back(copied != 0 ? copied : static_cast<float>(4 * normal(generator) / double(1 + i % 11)));
    }
  }
  for (int64_t j = 0; j < parameters; ++j) p.v.push_back(normal(generator) + 0.5);
  return p;
}

// M in full.
Reals dense(const Problem& p) {
  const int64_t n = p.parameters;
  Reals m(size_t(n * n), 0);
  for (int64_t i = 0; i < p.rows; ++i) {
    const float* row = &p.jacobian[size_t(i * n)];
    for (int64_t a = 0; a < n; ++a) {
      for (int64_t b = 0; b < n; ++b) m[size_t(a * n + b)] += static_cast<long double>(row[a]) * row[b];
    }
  }
  for (long double& value : m) value *= static_cast<long double>(p.theta) / p.sampled;
  for (int64_t a = 0; a < n; ++a) m[size_t(a * n + a)] += p.mu;
  return m;
}

// M^-1 v by elimination without pivoting (M is positive definite).
Reals solve(Reals m, Reals x) {
  const size_t n = x.size();
  for (size_t k = 0; k < n; ++k) {
    for (size_t i = k + 1; i < n; ++i) {
      const long double factor = m[i * n + k] / m[k * n + k];
      for (size_t j = k; j < n; ++j) m[i * n + j] -= factor * m[k * n + j];
      x[i] -= factor * x[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) x[k] -= m[k * n + j] * x[j];
    x[k] /= m[k * n + k];
  }
  return x;
}

LowRankPreconditioner build(const Problem& p) {
  LowRankPreconditioner preconditioner(p.jacobian, p.rows, p.parameters, p.sampled);
  preconditioner.factor(p.theta, p.mu);
  return preconditioner;
}

}  // namespace

TEST(low_rank_inverse_agrees_with_the_dense_one) {
  const Problem problems[] = {make_problem(1, 1, 1, 1, 0.1),           make_problem(1, 37, 1, 0.3, 0.1),
                              make_problem(6, 61, 2, 1, 0.1),          make_problem(23, 90, 23, 0.25, 1),
                              make_problem(70, 40, 7, 1, 0.01),        make_problem(66, 130, 33, 0.5, 0.1),
                              make_problem(20, 64, 10, 1, 1e-4, true), make_problem(12, 50, 4, 1e-9, 3)};
  for (const Problem& p : problems) {
    const LowRankPreconditioner preconditioner = build(p);
    const Reals m = dense(p);
    const Reals expected = solve(m, Reals(p.v.begin(), p.v.end()));
    std::vector<double> product(p.v.size());
    preconditioner.apply_inverse<double>(p.v, product);
    // Woodbury subtracts numbers of size |v|/mu, so the error is eps times the largest eigenvalue of M over mu.
    long double trace = 0, quadratic = 0;
    for (size_t j = 0; j < p.v.size(); ++j) {
      trace += m[j * p.v.size() + j];
      quadratic += expected[j] * p.v[j];
    }
    const double condition = double(trace) / p.mu;
    CHECK(check::relative_error(product.data(), expected.data(), product.size()) <= 1e-15 * condition + 1e-15);
    CHECK_CAN_FAIL([&] {
      std::vector<double> wrong = product;
      wrong[0] *= 1.001;
      return check::relative_error(wrong.data(), expected.data(), wrong.size()) <= 1e-15 * condition + 1e-15;
    }());
    const double value = preconditioner.inverse_quadratic(p.v);
    CHECK_NEAR(value / double(quadratic), 1.0, 1e-15 * condition + 1e-14);
    // M M^-1 v = v, in place
    preconditioner.apply<double>(std::span<const double>(product), product);
    CHECK(check::relative_error(product.data(), p.v.data(), product.size()) <= 1e-15 * condition + 1e-15);
    check::check_telling(product.data(), product.size(), "M^-1 v");
  }
}

TEST(low_rank_inverse_of_long_vectors_crosses_chunks) {
  for (const int64_t parameters : {2047, 2048, 2049, 10'003}) {
    const Problem p = make_problem(9, parameters, 3, 0.4, 0.5);
    const LowRankPreconditioner preconditioner = build(p);
    std::vector<double> x(p.v.size());
    preconditioner.apply_inverse<double>(p.v, x);
    Reals back(x.size());
    for (size_t j = 0; j < x.size(); ++j) back[j] = static_cast<long double>(p.mu) * x[j];
    for (int64_t i = 0; i < p.rows; ++i) {
      const float* row = &p.jacobian[size_t(i * parameters)];
      long double product = 0;
      for (size_t j = 0; j < x.size(); ++j) product += static_cast<long double>(row[j]) * x[j];
      for (size_t j = 0; j < x.size(); ++j) back[j] += p.theta / p.sampled * product * row[j];
    }
    CHECK(check::relative_error(back.data(), p.v.data(), x.size()) <= 1e-10);
  }
}

// By the backend's float32 products, over more columns than one of them takes; where the damping is below what float32
// loses of the Gram matrix, that matrix is wide after all.
TEST(low_rank_inverse_by_float32_products) {
  for (const double mu : {50.0, 1e-7}) {
    const Problem p = make_problem(24, 9'001, 8, 1, mu);
    const LowRankPreconditioner wide = build(p);
    LowRankPreconditioner narrow(p.jacobian, p.rows, p.parameters, p.sampled, open_cpu());
    narrow.factor(p.theta, mu);
    std::vector<double> expected(p.v.size()), by_narrow_gram(p.v.size());
    wide.apply_inverse<double>(p.v, expected);
    narrow.apply_inverse<double>(p.v, by_narrow_gram);
    const std::vector<long double> reference(expected.begin(), expected.end());
    const double off = check::relative_error(by_narrow_gram.data(), reference.data(), expected.size());
    if (mu < 1e-3) {
      CHECK(by_narrow_gram == expected);
      continue;
    }
    CHECK(off > 0 && off <= 1e-5);
    const std::vector<float> v(p.v.begin(), p.v.end());
    std::vector<float> x = v;
    narrow.apply_inverse<float>(x, x);
    CHECK(check::relative_error(x.data(), reference.data(), x.size()) <= 2e-5);
    check::check_telling(x.data(), x.size(), "M^-1 v");
  }
}

TEST(low_rank_inverse_in_float32_is_rounded_once) {
  const Problem p = make_problem(40, 300, 4, 1, 0.1);
  const LowRankPreconditioner preconditioner = build(p);
  const std::vector<float> v(p.v.begin(), p.v.end());
  const std::vector<double> wide(v.begin(), v.end());
  std::vector<float> product(v.size());
  std::vector<double> expected(v.size());
  preconditioner.apply_inverse<float>(v, product);
  preconditioner.apply_inverse<double>(wide, expected);
  bool right = true;
  for (size_t j = 0; j < v.size(); ++j) right = right && product[j] == static_cast<float>(expected[j]);
  CHECK(right);
}

TEST(low_rank_is_the_same_on_any_threads) {
  const Problem p = make_problem(70, 20'000, 7, 1, 0.1);
  std::vector<double> one(p.v.size()), three(p.v.size());
  parallel_threads() = 1;
  build(p).apply_inverse<double>(p.v, one);
  parallel_threads() = 3;
  build(p).apply_inverse<double>(p.v, three);
  parallel_threads() = 0;
  CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(double)) == 0);
}

TEST(low_rank_with_theta_m_over_n_lies_below_the_curvature) {
  // H = (1/n) J_all^T J_all + mu I; M from a third of its rows with theta = m/n: x^T M x <= x^T H x for every x, so
  // rho^T M^-1 rho >= rho^T H^-1 rho.
  const int64_t n = 30, parameters = 50, m = 10;
  Problem all = make_problem(n, parameters, n, 1, 0.1);
  Problem part = all;
  part.rows = m;
  part.sampled = m;
  part.theta = double(m) / double(n);
  part.jacobian.resize(size_t(m * parameters));
  const LowRankPreconditioner preconditioner = build(part);
  const Reals h = dense(all);
  std::mt19937_64 generator(3);
  std::normal_distribution<double> normal;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<double> rho(size_t(parameters), 0.0);
    for (double& value : rho) value = normal(generator);
    const Reals x = solve(h, Reals(rho.begin(), rho.end()));
    long double energy = 0;
    for (size_t j = 0; j < rho.size(); ++j) energy += x[j] * rho[j];
    CHECK(preconditioner.inverse_quadratic(rho) >= double(energy) * (1 - 1e-12));
  }
}

TEST(low_rank_factor_can_be_chosen_again) {
  Problem p = make_problem(12, 33, 4, 1, 0.1);
  LowRankPreconditioner preconditioner = build(p);
  p.theta = 0.2;
  p.mu = 2;
  preconditioner.factor(p.theta, p.mu);
  const Reals expected = solve(dense(p), Reals(p.v.begin(), p.v.end()));
  std::vector<double> product(p.v.size());
  preconditioner.apply_inverse<double>(p.v, product);
  CHECK(check::relative_error(product.data(), expected.data(), product.size()) <= 1e-12);
  for (const double bad : {0.0, -1.0, std::nan(""), double(INFINITY)}) {
    CHECK_THROWS(ErrorCode::invalid_argument, preconditioner.factor(bad, 1));
    CHECK_THROWS(ErrorCode::invalid_argument, preconditioner.factor(1, bad));
  }
  std::vector<double> after(p.v.size());
  preconditioner.apply_inverse<double>(p.v, after);
  CHECK(after == product);
}

TEST(low_rank_refuses_what_does_not_fit) {
  CHECK_THROWS(ErrorCode::invalid_argument, LowRankPreconditioner({}, 0, 3, 1));
  CHECK_THROWS(ErrorCode::invalid_argument, LowRankPreconditioner({}, 3, 0, 1));
  CHECK_THROWS(ErrorCode::shape, LowRankPreconditioner({1, 2, 3}, 2, 2, 1));
  CHECK_THROWS(ErrorCode::invalid_argument, LowRankPreconditioner({1, 2, 3, 4}, 2, 2, 3));
  CHECK_THROWS(ErrorCode::invalid_argument, LowRankPreconditioner({1, 2, 3, 4}, 2, 2, 0));
  LowRankPreconditioner preconditioner({1, 2, 3, 4}, 2, 2, 2);
  std::vector<double> two(2, 1.0), three(3, 1.0);
  CHECK_THROWS(ErrorCode::internal, preconditioner.apply_inverse<double>(two, two));
  preconditioner.factor(1, 1);
  CHECK_THROWS(ErrorCode::shape, preconditioner.apply_inverse<double>(three, two));
  CHECK_THROWS(ErrorCode::shape, preconditioner.apply_inverse<double>(two, three));
  CHECK_THROWS(ErrorCode::shape, preconditioner.inverse_quadratic(three));
  LowRankPreconditioner broken({1, NAN, 3, 4}, 2, 2, 2);
  CHECK_THROWS(ErrorCode::invalid_argument, broken.factor(1, 1));
}
