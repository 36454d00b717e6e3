// Blocked products, Cholesky and substitution against plain loops in long double, over sizes on both sides of a block.
#include "core/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/parallel.h"

using namespace palimpsest;

namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon() / 2;
constexpr int64_t kOrders[] = {1, 2, 3, 5, 8, 63, 64, 65, 130, 257};

template <class T>
std::vector<T> random_values(size_t n, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> values(n);
  for (T& value : values) value = static_cast<T>(uniform(generator));
  return values;
}

// B B^T + ridge I with the entries above the diagonal poisoned.
std::vector<double> random_positive(int64_t n, double ridge, uint64_t seed) {
  const std::vector<double> b = random_values<double>(size_t(n * n), seed);
  std::vector<double> a(size_t(n * n), std::nan(""));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      long double sum = i == j ? ridge : 0;
      for (int64_t k = 0; k < n; ++k) sum += static_cast<long double>(b[size_t(i * n + k)]) * b[size_t(j * n + k)];
      a[size_t(i * n + j)] = static_cast<double>(sum);
    }
  }
  return a;
}

template <class T>
void check_product(int64_t m, int64_t k, int64_t n, bool transpose_a, bool transpose_b, Part part) {
  const std::vector<T> a = random_values<T>(size_t(m * k), 1), b = random_values<T>(size_t(k * n), 2);
  const int64_t stride = n + 3;
  const std::vector<double> before = random_values<double>(size_t(m * stride), 3);
  std::vector<double> c = before;
  const MatrixView<T> va = transpose_a ? row_major(a.data(), k, m).transposed() : row_major(a.data(), m, k);
  const MatrixView<T> vb = transpose_b ? row_major(b.data(), n, k).transposed() : row_major(b.data(), k, n);
  multiply_add(-1.5, va, vb, c.data(), stride, part);
  bool right = true;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < stride; ++j) {
      const double was = before[size_t(i * stride + j)], is = c[size_t(i * stride + j)];
      if (j >= n || (part == Part::lower && j > i)) {
        right = right && was == is;
        continue;
      }
      long double sum = 0, size = 0;
      for (int64_t p = 0; p < k; ++p) {
        const long double term = static_cast<long double>(va.at(i, p)) * vb.at(p, j);
        sum += term;
        size += std::fabs(term);
      }
      const double expected = static_cast<double>(was - 1.5L * sum);
      const double tolerance = kUnit * (double(k + 3) * 1.5 * double(size) + std::fabs(was) + 1e-300);
      right = right && std::fabs(is - expected) <= tolerance;
    }
  }
  CHECK(right);
}

}  // namespace

TEST(dense_products_agree_with_long_double) {
  const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 2}, {4, 4, 4}, {65, 7, 9}, {66, 300, 67}, {5, 513, 521}, {130, 64, 1}};
  for (const auto& size : sizes) {
    for (int mask = 0; mask < 4; ++mask) {
      check_product<double>(size[0], size[1], size[2], mask & 1, mask & 2, Part::all);
      check_product<float>(size[0], size[1], size[2], mask & 1, mask & 2, Part::all);
    }
  }
  for (const int64_t n : {1, 4, 65, 131, 600}) check_product<double>(n, 9, n, false, true, Part::lower);
  check_product<double>(3, 0, 4, false, false, Part::all);
}

TEST(dense_product_same_bits_on_any_threads) {
  const int64_t m = 150, k = 333, n = 77;
  const std::vector<double> a = random_values<double>(size_t(m * k), 4), b = random_values<double>(size_t(k * n), 5);
  std::vector<double> one(size_t(m * n), 0.0), three = one;
  parallel_threads() = 1;
  multiply_add(1.0, row_major(a.data(), m, k), row_major(b.data(), k, n), one.data(), n);
  parallel_threads() = 3;
  multiply_add(1.0, row_major(a.data(), m, k), row_major(b.data(), k, n), three.data(), n);
  parallel_threads() = 0;
  CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(double)) == 0);
}

TEST(dense_cholesky_gives_the_matrix_back) {
  for (const int64_t n : kOrders) {
    const std::vector<double> a = random_positive(n, 0.1, uint64_t(n));
    std::vector<double> l = a;
    cholesky(l.data(), n);
    bool right = true, untouched = true;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        if (j > i) {
          untouched = untouched && std::isnan(l[size_t(i * n + j)]);
          continue;
        }
        long double sum = 0;
        for (int64_t k = 0; k <= j; ++k) sum += static_cast<long double>(l[size_t(i * n + k)]) * l[size_t(j * n + k)];
        const double scale = std::sqrt(a[size_t(i * n + i)] * a[size_t(j * n + j)]);
        right = right && std::fabs(double(sum) - a[size_t(i * n + j)]) <= double(n + 2) * kUnit * scale;
      }
    }
    CHECK(right);
    CHECK(untouched);
  }
}

TEST(dense_substitution_inverts_the_factor) {
  for (const int64_t n : kOrders) {
    std::vector<double> l = random_positive(n, 1.0, uint64_t(n) + 50);
    cholesky(l.data(), n);
    for (const int64_t columns : {1, 3, 8, 21}) {
      const std::vector<double> b = random_values<double>(size_t(n * columns), 7);
      std::vector<double> lower = b, upper = b;
      solve_lower(l.data(), n, lower.data(), columns);
      solve_lower_transposed(l.data(), n, upper.data(), columns);
      bool right = true;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          long double forward = 0, backward = 0, forward_size = 0, backward_size = 0;
          for (int64_t k = 0; k < n; ++k) {
            const long double x = lower[size_t(k * columns + j)], y = upper[size_t(k * columns + j)];
            const long double f = k <= i ? l[size_t(i * n + k)] * x : 0;
            const long double g = k >= i ? l[size_t(k * n + i)] * y : 0;
            forward += f;
            backward += g;
            forward_size += std::fabs(f);
            backward_size += std::fabs(g);
          }
          const double target = b[size_t(i * columns + j)];
          // Componentwise backward error of substitution (Higham 2002, Theorem 8.5).
          right = right && std::fabs(double(forward) - target) <= double(n + 2) * kUnit * double(forward_size) &&
                  std::fabs(double(backward) - target) <= double(n + 2) * kUnit * double(backward_size);
        }
      }
      CHECK(right);
    }
  }
}

TEST(dense_cholesky_refuses_what_is_not_positive_definite) {
  const auto message_of = [](std::vector<double> a, int64_t n) {
    try {
      cholesky(a.data(), n);
    } catch (const Error& error) {
      return error.code() == ErrorCode::invalid_argument ? std::string(error.what()) : std::string("wrong code");
    }
    return std::string();
  };
  CHECK(message_of({1, 0, 2, 1}, 2).find("order 2, got pivot -3 at row 1") != std::string::npos);
  CHECK(!message_of({0}, 1).empty());
  CHECK(!message_of({std::nan("")}, 1).empty());
  CHECK(!message_of({std::numeric_limits<double>::infinity()}, 1).empty());
  std::vector<double> late = random_positive(130, 0.1, 9);
  late[size_t(100 * 130 + 3)] = std::nan("");
  CHECK(!message_of(late, 130).empty());
  std::vector<double> singular(81, 1.0);  // rank one
  CHECK(!message_of(singular, 9).empty());
  CHECK(message_of(random_positive(130, 0.1, 9), 130).empty());
}

TEST(dense_mirror_dot_and_norm) {
  std::vector<double> a = {1, -1, -1, 2, 3, -1, 4, 5, 6};
  mirror_lower(a.data(), 3);
  CHECK((a == std::vector<double>{1, 2, 4, 2, 3, 5, 4, 5, 6}));
  for (const size_t n : {0, 1, 7, 8, 9, 1003}) {
    const std::vector<double> x = random_values<double>(n, 11), y = random_values<double>(n, 12);
    long double sum = 0, square = 0;
    for (size_t i = 0; i < n; ++i) {
      sum += static_cast<long double>(x[i]) * y[i];
      square += static_cast<long double>(x[i]) * x[i];
    }
    CHECK_NEAR(dot(x, y), double(sum), 1e-16 * double(n));
    CHECK_NEAR(norm(x), double(std::sqrt(square)), 1e-15 * double(n));
  }
  CHECK_NEAR(dot(std::vector<double>{1, 2}, std::vector<double>{3, -4}), -5, 0);
}
