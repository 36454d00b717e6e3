// The closed form of the last layer against problems whose minimiser is known exactly, and its sums under deletion.
#include "unlearn/ridge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "core/compensated.h"
#include "core/dense.h"
#include "core/parallel.h"
#include "unlearn/gaussian_sampler.h"

using namespace palimpsest;

namespace {

// Small binary fractions throughout, so that all sums are exact and `solution` is the minimiser to the last bit:
// r0 = -solution^T phi, and a row e_j for every feature with r0 = -(1 + n mu) solution_j.
struct Problem {
  int64_t features, outputs, rows;
  double mu;
  std::vector<double> phi, r0, solution;
};

Problem exact_problem(uint64_t seed) {
  std::mt19937_64 generator(seed);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator() % uint64_t(high - low + 1));
  };
  Problem p;
  p.features = between(1, 24);
  p.outputs = between(1, 5);
  const int64_t random_rows = between(0, 60);
  p.rows = random_rows + p.features;
  p.mu = std::ldexp(1.0, int(between(-7, 1)));
  for (int64_t i = 0; i < p.features * p.outputs; ++i) p.solution.push_back(double(between(-255, 255)) / 64);
  for (int64_t i = 0; i < p.rows; ++i) {
    std::vector<double> phi(size_t(p.features), 0.0);
    if (i < random_rows) {
      for (int64_t j = 0; j < p.features; ++j) {
        phi[size_t(j)] = std::ldexp(double(between(-31, 31)), int(-(j % 6) - 2));
      }
    } else {
      phi[size_t(i - random_rows)] = 1;
    }
    const double factor = i < random_rows ? 1 : 1 + double(p.rows) * p.mu;
    for (int64_t k = 0; k < p.outputs; ++k) {
      double sum = 0;
      for (int64_t j = 0; j < p.features; ++j) sum += phi[size_t(j)] * p.solution[size_t(j * p.outputs + k)];
      p.r0.push_back(-factor * sum);
    }
    p.phi.insert(p.phi.end(), phi.begin(), phi.end());
  }
  return p;
}

RidgeStatistics statistics_of(const Problem& p) {
  RidgeStatistics statistics(p.features, p.outputs);
  statistics.add<double>(p.phi, p.r0);
  return statistics;
}

struct Truth {
  double residual, distance, energy;
};

// rho = H delta, |delta| and delta^T H delta for delta = w - solution, from the rows themselves in long double.
Truth truth_of(const Problem& p, const std::vector<double>& w) {
  const size_t size = w.size();
  std::vector<long double> delta(size), rho(size);
  Truth truth{0, 0, 0};
  long double distance = 0, energy = 0, residual = 0;
  for (size_t i = 0; i < size; ++i) {
    delta[i] = static_cast<long double>(w[i]) - p.solution[i];
    rho[i] = p.mu * delta[i];
    distance += delta[i] * delta[i];
  }
  for (int64_t row = 0; row < p.rows; ++row) {
    const double* phi = &p.phi[size_t(row * p.features)];
    for (int64_t k = 0; k < p.outputs; ++k) {
      long double product = 0;
      for (int64_t j = 0; j < p.features; ++j) product += phi[j] * delta[size_t(j * p.outputs + k)];
      for (int64_t j = 0; j < p.features; ++j) rho[size_t(j * p.outputs + k)] += phi[j] * product / p.rows;
      energy += product * product / p.rows;
    }
  }
  energy += p.mu * distance;
  for (const long double value : rho) residual += value * value;
  truth.residual = double(std::sqrt(residual));
  truth.distance = double(std::sqrt(distance));
  truth.energy = double(energy);
  return truth;
}

std::vector<double> random_rows(int64_t count, int64_t width, uint64_t seed, bool single) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count * width));
  for (double& value : values) {
    value = normal(generator);
    if (single) value = static_cast<float>(value);
  }
  return values;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

}  // namespace

TEST(ridge_solution_is_exact_to_rounding) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Problem p = exact_problem(seed);
    const std::vector<double> w = RidgeSolver(statistics_of(p), p.mu).solve();
    CHECK(difference(w, p.solution) <= 2.3e-16 * norm(p.solution));
    CHECK_CAN_FAIL(difference(w, std::vector<double>(w.size(), 1.0)) <= 2.3e-16 * norm(p.solution));
  }
}

TEST(ridge_certificate_is_never_below_the_truth_and_tight) {
  std::vector<double> energy_ratios, distance_ratios;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    const Problem p = exact_problem(seed + 1000);
    const RidgeSolver solver(statistics_of(p), p.mu);
    const std::vector<double> solved = solver.solve();
    const std::vector<double> direction = random_rows(int64_t(solved.size()), 1, seed, false);
    std::vector<std::vector<double>> points = {solved, p.solution, std::vector<double>(solved.size(), 0.0)};
    points.emplace_back(solved);
    for (double& value : points.back()) value = static_cast<float>(value + 1e-3);
    for (const double size : {1e-15, 1e-12, 1e-9, 1e-6, 1e-2, 10.0}) {
      points.emplace_back(solved);
      for (size_t i = 0; i < solved.size(); ++i) points.back()[i] += size * direction[i];
    }
    for (const std::vector<double>& w : points) {
      const Truth truth = truth_of(p, w);
      const RidgeCertificate certificate = solver.certify(w);
      CHECK(certificate.residual >= truth.residual);
      CHECK(certificate.distance >= truth.distance);
      CHECK(certificate.energy >= truth.energy);
      CHECK(certificate.allowance <= 1e-12 * (1 + norm(w)) * (1 + norm(p.phi) * norm(p.phi)));
      if (!(truth.distance > 1e-11 * norm(p.solution))) continue;
      energy_ratios.push_back(certificate.energy / truth.energy);
      distance_ratios.push_back(certificate.distance / truth.distance);
    }
  }
  CHECK(energy_ratios.size() > 3500);
  std::nth_element(energy_ratios.begin(), energy_ratios.begin() + int64_t(energy_ratios.size() / 2),
                   energy_ratios.end());
  CHECK(energy_ratios[energy_ratios.size() / 2] <= 1 + 1e-6);
  CHECK(*std::max_element(energy_ratios.begin(), energy_ratios.end()) <= 1.01);
  CHECK(*std::max_element(distance_ratios.begin(), distance_ratios.end()) <= 1.01);
}

TEST(ridge_drift_bound_covers_ten_thousand_downdates) {
  const int64_t features = 64, outputs = 10, rows = 11'000, kept = 1000;
  std::vector<double> phi = random_rows(rows, features, 1, true);
  const std::vector<double> r0 = random_rows(rows, outputs, 2, true);
  for (int64_t i = 0; i < rows; ++i) phi[size_t(i * features)] = 1;  // a bias
  RidgeStatistics statistics(features, outputs);
  statistics.add<double>(phi, r0);
  std::vector<long double> gram(size_t(features * features), 0), cross(size_t(features * outputs), 0);
  const auto update = [&](int64_t row, int sign) {
    for (int64_t a = 0; a < features; ++a) {
      const long double x = sign * phi[size_t(row * features + a)];
      for (int64_t b = 0; b < features; ++b) gram[size_t(a * features + b)] += x * phi[size_t(row * features + b)];
      for (int64_t k = 0; k < outputs; ++k) cross[size_t(a * outputs + k)] += x * r0[size_t(row * outputs + k)];
    }
  };
  const auto errors = [&] {
    long double gram_error = 0, cross_error = 0;
    for (size_t i = 0; i < gram.size(); ++i) gram_error += std::pow(statistics.gram()[i] - gram[i], 2);
    for (size_t i = 0; i < cross.size(); ++i) cross_error += std::pow(statistics.cross()[i] - cross[i], 2);
    return std::pair(double(std::sqrt(gram_error)), double(std::sqrt(cross_error)));
  };
  for (int64_t row = 0; row < kept; ++row) update(row, 1);
  std::vector<long double> fresh_gram = gram, fresh_cross = cross;  // added only: the truth at the end
  for (int64_t row = kept; row < rows; ++row) update(row, 1);
  for (int64_t row = kept; row < rows; ++row) {
    const size_t at = size_t(row);
    statistics.subtract<double>({&phi[at * features], size_t(features)}, {&r0[at * outputs], size_t(outputs)});
    update(row, -1);
    if (row % 1000 != 0) continue;
    const auto [gram_error, cross_error] = errors();
    CHECK(statistics.gram_drift() >= gram_error);
    CHECK(statistics.cross_drift() >= cross_error);
  }
  gram = fresh_gram;
  cross = fresh_cross;
  const auto [gram_error, cross_error] = errors();
  CHECK(statistics.rows() == kept);
  CHECK(gram_error > 0);  // rounding did happen
  CHECK(statistics.gram_drift() >= gram_error);
  CHECK(statistics.cross_drift() >= cross_error);
  CHECK(statistics.gram_drift() <= 5e-9);
  CHECK(statistics.cross_drift() <= 5e-9);

  RidgeStatistics fresh(features, outputs);
  fresh.add<double>({phi.data(), size_t(kept * features)}, {r0.data(), size_t(kept * outputs)});
  const RidgeSolver drifted(statistics, 0.1), anew(fresh, 0.1);
  const std::vector<double> w = drifted.solve(), exact = anew.solve();
  CHECK(difference(w, exact) <= 1e-14 * norm(exact));
  const RidgeCertificate certificate = drifted.certify(w);
  CHECK(certificate.distance >= difference(w, exact));
  CHECK(certificate.distance <= 1e-10 * norm(exact));
}

TEST(ridge_certificate_covers_what_large_deleted_rows_left_behind) {
  const int64_t features = 64, outputs = 3, kept = 200, deleted = 400;
  const std::vector<double> phi = random_rows(kept, features, 31, false), r0 = random_rows(kept, outputs, 32, false);
  std::vector<double> large = random_rows(deleted, features, 33, false);
  const std::vector<double> large_r0 = random_rows(deleted, outputs, 34, false);
  for (double& value : large) value *= 1e5;
  RidgeStatistics fresh(features, outputs), after(features, outputs);
  fresh.add<double>(phi, r0);
  after.add<double>(large, large_r0);
  after.add<double>(phi, r0);
  for (size_t row = 0; row < size_t(deleted); ++row) {  // one by one, though added in blocks of four
    after.subtract<double>({&large[row * features], size_t(features)}, {&large_r0[row * outputs], size_t(outputs)});
  }
  const RidgeSolver solver(after, 0.1);
  const std::vector<double> w = solver.solve(), exact = RidgeSolver(fresh, 0.1).solve();
  const double distance = difference(w, exact);
  CHECK(distance > 1e-11);
  CHECK(solver.certify(w).distance >= distance);
  CHECK(solver.certify(w).distance <= 1e6 * distance);
  CHECK_CAN_FAIL(norm(solver.residual(w)) / 0.1 >= distance);  // the residual at the sums in memory sees nothing
}

TEST(ridge_sums_of_float32_rows_are_off_by_one_rounding_only) {
  const int64_t features = 20, outputs = 4, rows = 900;
  const std::vector<double> phi = random_rows(rows, features, 41, true), r0 = random_rows(rows, outputs, 42, true);
  const std::vector<float> phi32(phi.begin(), phi.end()), r032(r0.begin(), r0.end());
  RidgeStatistics statistics(features, outputs);
  statistics.add<float>(phi32, r032);
  statistics.subtract<float>({phi32.data(), size_t(700 * features)}, {r032.data(), size_t(700 * outputs)});
  long double gram_error = 0, cross_error = 0;
  for (int64_t a = 0; a < features; ++a) {
    for (int64_t b = 0; b < features + outputs; ++b) {
      long double sum = 0;
      for (int64_t row = 700; row < rows; ++row) {
        const double other = b < features ? phi[size_t(row * features + b)] : r0[size_t(row * outputs + b - features)];
        sum += static_cast<long double>(phi[size_t(row * features + a)]) * other;
      }
      if (b < features) gram_error += std::pow(statistics.gram()[size_t(a * features + b)] - sum, 2);
      else cross_error += std::pow(statistics.cross()[size_t(a * outputs + b - features)] - sum, 2);
    }
  }
  CHECK(gram_error > 0);
  CHECK(statistics.gram_drift() >= std::sqrt(double(gram_error)));
  CHECK(statistics.cross_drift() >= std::sqrt(double(cross_error)));
  CHECK(statistics.gram_drift() <= 1.01 * 0x1p-53 * norm(statistics.gram()));
  CHECK(statistics.cross_drift() <= 1.01 * 0x1p-53 * norm(statistics.cross()));
}

TEST(ridge_sums_do_not_depend_on_batches_beyond_their_drift) {
  const int64_t features = 37, outputs = 3, rows = 700;
  const std::vector<double> phi = random_rows(rows, features, 5, true), r0 = random_rows(rows, outputs, 6, true);
  RidgeStatistics whole(features, outputs), parts(features, outputs), single(features, outputs);
  whole.add<double>(phi, r0);
  int64_t at = 0;
  for (const int64_t count : {1, 7, 256, 300, 136}) {
    parts.add<double>({&phi[size_t(at * features)], size_t(count * features)},
                      {&r0[size_t(at * outputs)], size_t(count * outputs)});
    at += count;
  }
  CHECK(at == rows);
  single.add<float>(std::vector<float>(phi.begin(), phi.end()), std::vector<float>(r0.begin(), r0.end()));
  CHECK(difference(whole.gram(), parts.gram()) <= whole.gram_drift() + parts.gram_drift());
  CHECK(difference(whole.cross(), parts.cross()) <= whole.cross_drift() + parts.cross_drift());
  CHECK(whole.gram() == single.gram());
  CHECK(whole.cross() == single.cross());
  bool symmetric = true;
  for (int64_t i = 0; i < features; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      symmetric = symmetric && whole.gram()[size_t(i * features + j)] == whole.gram()[size_t(j * features + i)];
    }
  }
  CHECK(symmetric);
  // Subtracted in another order and grouping: what is left is nothing at all.
  parts.subtract<double>({&phi[size_t(400 * features)], size_t(300 * features)},
                         {&r0[size_t(400 * outputs)], size_t(300 * outputs)});
  CHECK(parts.rows() == 400);
  parts.subtract<double>({phi.data(), size_t(400 * features)}, {r0.data(), size_t(400 * outputs)});
  CHECK(parts.rows() == 0);
  CHECK(norm(parts.gram()) == 0);
  CHECK(norm(parts.cross()) == 0);
  CHECK(parts.gram_drift() == 0);
}

TEST(ridge_subtracts_only_what_was_added) {
  const int64_t features = 5, outputs = 2;
  const std::vector<double> phi = random_rows(4, features, 7, true), r0 = random_rows(4, outputs, 8, true);
  RidgeStatistics statistics(features, outputs);
  statistics.add<double>(phi, r0);
  const std::vector<double> gram = statistics.gram(), cross = statistics.cross();
  std::vector<double> nearly = phi;
  nearly[7] = std::nextafter(nearly[7], 10.0);
  CHECK_THROWS(ErrorCode::invalid_argument, statistics.subtract<double>(nearly, r0));
  std::vector<double> other = r0;
  other.back() += 1e-9;
  CHECK_THROWS(ErrorCode::invalid_argument, statistics.subtract<double>(phi, other));
  std::vector<double> twice_phi(phi.begin(), phi.begin() + features), twice_r0(r0.begin(), r0.begin() + outputs);
  twice_phi.insert(twice_phi.end(), phi.begin(), phi.begin() + features);
  twice_r0.insert(twice_r0.end(), r0.begin(), r0.begin() + outputs);
  CHECK_THROWS(ErrorCode::invalid_argument, statistics.subtract<double>(twice_phi, twice_r0));
  CHECK(statistics.gram() == gram);
  CHECK(statistics.cross() == cross);
  CHECK(statistics.rows() == 4);
  statistics.subtract<double>(phi, r0);  // the refusals took nothing from what may be subtracted
  CHECK(statistics.rows() == 0);
  statistics.add<double>(twice_phi, twice_r0);
  statistics.subtract<double>(twice_phi, twice_r0);  // equal rows are counted
  CHECK(statistics.rows() == 0);
}

TEST(ridge_shaped_noise_is_the_inverse_root_of_the_curvature) {
  const Problem p = exact_problem(77);
  const RidgeSolver solver(statistics_of(p), p.mu);
  const SecretKey key = SecretKey::from_seed(9);
  const size_t size = p.solution.size();
  std::vector<double> x(size), z(size);
  CHECK(solver.sample(key, 40, 0.25, x) == 41);
  fill_normal(key, 40, z);
  // (s L^-T z)^T H (s L^-T z) = s^2 |z|^2, and at right angles for different draws.
  std::vector<double> shifted = p.solution;
  for (size_t i = 0; i < size; ++i) shifted[i] += x[i];
  CHECK_NEAR(truth_of(p, shifted).energy / (0.0625 * dot(z, z)), 1.0, 1e-12);
  CHECK(solver.covariance_nats() < 1e-20);
  CHECK(solver.covariance_nats() > 0);
  // Where rounding could change the covariance by more than a negligible part, nothing is claimed of it.
  CHECK(std::isinf(RidgeSolver(statistics_of(p), 1e-9).covariance_nats()));

  // Covariance over draws: the mean of H x x^T is s^2 I for every output.
  const int draws = 20'000;
  const size_t f = size_t(p.features), k = size_t(p.outputs);
  const RidgeStatistics statistics = statistics_of(p);
  std::vector<double> product(f * f, 0.0), high(size), low(size);
  uint64_t stream = 100;
  for (int draw = 0; draw < draws; ++draw) {
    stream = solver.sample(key, stream, 2.0, x);
    multiply_compensated(statistics.gram().data(), p.features, p.features, x.data(), p.outputs, high.data(),
                         low.data());
    for (size_t a = 0; a < f; ++a) {
      for (size_t b = 0; b < f; ++b) {
        const double hx = high[a * k] / double(p.rows) + p.mu * x[a * k];
        product[a * f + b] += hx * x[b * k] / draws;
      }
    }
  }
  // Var (Hx)_a x_b = s^4 (H_aa H^-1_bb + [a = b]) <= s^4 (trace H / mu + 1).
  double trace = p.mu * double(f);
  for (size_t a = 0; a < f; ++a) trace += statistics.gram()[a * f + a] / double(p.rows);
  for (size_t a = 0; a < f; ++a) {
    for (size_t b = 0; b < f; ++b) {
      CHECK_NEAR(product[a * f + b], a == b ? 4.0 : 0.0, 5 * 4 * std::sqrt((trace / p.mu + 1) / draws));
    }
  }
}

TEST(ridge_is_the_same_on_any_threads) {
  const int64_t features = 130, outputs = 11, rows = 600;
  const std::vector<double> phi = random_rows(rows, features, 15, true), r0 = random_rows(rows, outputs, 16, true);
  const auto run = [&](int threads) {
    parallel_threads() = threads;
    RidgeStatistics statistics(features, outputs);
    statistics.add<double>(phi, r0);
    std::vector<double> w = RidgeSolver(statistics, 0.1).solve();
    parallel_threads() = 0;
    return w;
  };
  CHECK(run(1) == run(3));
}

TEST(ridge_refuses_bad_arguments) {
  CHECK_THROWS(ErrorCode::invalid_argument, RidgeStatistics(0, 1));
  CHECK_THROWS(ErrorCode::invalid_argument, RidgeStatistics(1, 0));
  RidgeStatistics statistics(2, 1);
  using Values = std::vector<double>;
  CHECK_THROWS(ErrorCode::shape, statistics.add<double>(Values{1, 2, 3}, Values{1}));
  CHECK_THROWS(ErrorCode::shape, statistics.add<double>(Values{1, 2}, Values{1, 2}));
  CHECK_THROWS(ErrorCode::invalid_argument, statistics.add<double>(Values{1, std::nan("")}, Values{1}));
  CHECK_THROWS(ErrorCode::invalid_argument, statistics.add<double>(Values{1, 1}, Values{INFINITY}));
  CHECK_THROWS(ErrorCode::invalid_argument, RidgeSolver(statistics, 0.1));
  statistics.add<double>(Values{1, 2}, Values{1});
  for (const double bad : {0.0, -1.0, std::nan(""), double(INFINITY)}) {
    CHECK_THROWS(ErrorCode::invalid_argument, RidgeSolver(statistics, bad));
  }
  CHECK_THROWS(ErrorCode::invalid_argument, RidgeSolver(statistics, 1e-30));  // lost beside A, which has rank one
  const RidgeSolver solver(statistics, 0.1);
  Values two(2, 1.0);
  CHECK_THROWS(ErrorCode::shape, solver.certify(Values{1}));
  CHECK_THROWS(ErrorCode::shape, solver.residual(Values{1, 2, 3}));
  CHECK_THROWS(ErrorCode::invalid_argument, solver.certify(Values{1, std::nan("")}));
  CHECK_THROWS(ErrorCode::invalid_argument, solver.sample(SecretKey::from_seed(1), 0, 0.0, two));
}

TEST(compensated_products_keep_twice_the_precision) {
  const int64_t rows = 9, inner = 301, columns = 11;
  std::vector<double> a = random_rows(rows, inner, 21, false), b = random_rows(inner, columns, 22, false);
  // The second half of the terms undoes the first, all but a remainder of 1e-20.
  for (int64_t k = 0; k + 151 < inner; ++k) {
    for (int64_t i = 0; i < rows; ++i) a[size_t(i * inner + k + 151)] = -a[size_t(i * inner + k)];
    for (int64_t j = 0; j < columns; ++j) b[size_t((k + 151) * columns + j)] = b[size_t(k * columns + j)];
  }
  for (int64_t i = 0; i < rows; ++i) a[size_t(i * inner + 150)] = 1e-20 * double(i + 1);
  std::vector<double> high(size_t(rows * columns)), low(size_t(rows * columns));
  multiply_compensated(a.data(), rows, inner, b.data(), columns, high.data(), low.data());
  bool right = true, plain_fails = false;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const size_t at = size_t(i * columns + j);
      const double expected = a[size_t(i * inner + 150)] * b[size_t(150 * columns + j)];
      const double bound = 8.0 * inner * inner * 0x1p-106 * 300;
      right = right && std::fabs(high[at] + low[at] - expected) <= bound;
      plain_fails = plain_fails || std::fabs(high[at] - expected) > bound;
    }
  }
  CHECK(right);
  CHECK(plain_fails);
}
