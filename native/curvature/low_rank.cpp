// Gram matrix, Woodbury's formula and the two passes over the sampled Jacobian.
#include "curvature/low_rank.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "core/dense.h"
#include "core/error.h"
#include "core/parallel.h"

namespace palimpsest {
namespace {

constexpr int64_t kRows = 4;        // rows of J that share one pass over v
constexpr int64_t kLanes = 4;       // interleaved sums of an inner product
constexpr int64_t kColumns = 2048;  // columns of J^T a that stay in the first level cache, a multiple of kLanes

// sums[q] += <row q, v> over [begin, end): the lanes of a chunk first, so that long sums stay accurate.
template <class T>
void add_inner_products(const float* const (&row)[kRows], const T* v, int64_t begin, int64_t end, double* sums) {
  double lane[kRows][kLanes] = {};
  int64_t j = begin;
  for (; j + kLanes <= end; j += kLanes) {
    for (int64_t q = 0; q < kRows; ++q) {
      for (int64_t l = 0; l < kLanes; ++l)
        lane[q][l] += static_cast<double>(row[q][j + l]) * static_cast<double>(v[j + l]);
    }
  }
  for (; j < end; ++j) {
    for (int64_t q = 0; q < kRows; ++q) lane[q][0] += static_cast<double>(row[q][j]) * static_cast<double>(v[j]);
  }
  for (int64_t q = 0; q < kRows; ++q) sums[q] += (lane[q][0] + lane[q][2]) + (lane[q][1] + lane[q][3]);
}

// sum[l] += a row[l] for l < width
void add_scaled_row(const float* row, double a, int64_t width, double* sum) {
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) sum[j + l] += a * static_cast<double>(row[j + l]);
  }
  for (; j < width; ++j) sum[j] += a * static_cast<double>(row[j]);
}

}  // namespace

LowRankPreconditioner::LowRankPreconditioner(std::vector<float> jacobian, int64_t rows, int64_t parameters,
                                             int64_t sampled)
    : jacobian_(std::make_shared<const std::vector<float>>(std::move(jacobian))),
      rows_(rows),
      parameters_(parameters),
      sampled_(sampled) {
  if (rows < 1 || parameters < 1 || rows > std::numeric_limits<int32_t>::max() ||
      parameters > std::numeric_limits<int64_t>::max() / rows) {
    throw Error(ErrorCode::invalid_argument, "expected a Jacobian of at least one row and one parameter, got " +
                                                 std::to_string(rows) + " x " + std::to_string(parameters));
  }
  if (jacobian_->size() != static_cast<size_t>(rows * parameters)) {
    throw Error(ErrorCode::shape, "expected a Jacobian of " + std::to_string(rows * parameters) + " numbers, got " +
                                      std::to_string(jacobian_->size()));
  }
  if (sampled < 1 || sampled > rows) {
    throw Error(ErrorCode::invalid_argument,
                "expected 1 to " + std::to_string(rows) + " sampled examples, got " + std::to_string(sampled));
  }
  auto gram = std::make_shared<std::vector<double>>(static_cast<size_t>(rows * rows), 0.0);
  multiply_add_transposed(1.0, row_major<float>(jacobian_->data(), rows, parameters), gram->data(), rows);
  gram_ = std::move(gram);
}

void LowRankPreconditioner::factor(double theta, double mu) {
  const double ridge = static_cast<double>(sampled_) * mu / theta;
  if (!(theta > 0) || !(mu > 0) || !std::isfinite(theta) || !std::isfinite(mu) || !std::isfinite(ridge)) {
    char text[80];
    std::snprintf(text, sizeof text, "expected theta > 0 and damping > 0, got %.9g and %.9g", theta, mu);
    throw Error(ErrorCode::invalid_argument, text);
  }
  std::vector<double> factor = *gram_;
  for (int64_t i = 0; i < rows_; ++i) factor[static_cast<size_t>(i * rows_ + i)] += ridge;
  cholesky(factor.data(), rows_);
  factor_ = std::move(factor);
  theta_ = theta;
  mu_ = mu;
}

void LowRankPreconditioner::require_ready(size_t in, size_t out) const {
  if (factor_.empty()) throw Error(ErrorCode::internal, "the preconditioner was not factored");
  const size_t expected = static_cast<size_t>(parameters_);
  if (in != expected || out != expected) {
    throw Error(ErrorCode::shape, "expected vectors of " + std::to_string(expected) + " parameters, got " +
                                      std::to_string(in) + " and " + std::to_string(out));
  }
}

template <class T>
std::vector<double> LowRankPreconditioner::jacobian_times(std::span<const T> v) const {
  std::vector<double> product(static_cast<size_t>(rows_));
  const double work = static_cast<double>(jacobian_->size());
  parallel_for((rows_ + kRows - 1) / kRows, work, [&](int64_t group) {
    const float* row[kRows];
    double sums[kRows] = {};
    // Rows past the end repeat the last one; their sums are dropped.
    for (int64_t q = 0; q < kRows; ++q) {
      row[q] = jacobian_->data() + std::min(rows_ - 1, group * kRows + q) * parameters_;
    }
    for (int64_t j = 0; j < parameters_; j += kColumns) {
      add_inner_products(row, v.data(), j, std::min(parameters_, j + kColumns), sums);
    }
    for (int64_t q = 0; q < kRows && group * kRows + q < rows_; ++q) {
      product[static_cast<size_t>(group * kRows + q)] = sums[q];
    }
  });
  return product;
}

template <class T>
void LowRankPreconditioner::transposed_times(std::span<const double> a, double scale, std::span<const T> v,
                                             double shift, std::span<T> out) const {
  const double work = static_cast<double>(jacobian_->size());
  parallel_for((parameters_ + kColumns - 1) / kColumns, work, [&](int64_t chunk) {
    const int64_t begin = chunk * kColumns;
    const int64_t width = std::min(kColumns, parameters_ - begin);
    double sum[kColumns] = {};
    for (int64_t i = 0; i < rows_; ++i) {
      add_scaled_row(jacobian_->data() + i * parameters_ + begin, a[static_cast<size_t>(i)], width, sum);
    }
    for (int64_t j = 0; j < width; ++j) {
      const size_t at = static_cast<size_t>(begin + j);
      out[at] = static_cast<T>(shift * static_cast<double>(v[at]) + scale * sum[j]);
    }
  });
}

template <class T>
void LowRankPreconditioner::apply_inverse(std::span<const T> v, std::span<T> out) const {
  require_ready(v.size(), out.size());
  std::vector<double> a = jacobian_times(v);
  cholesky_solve(factor_.data(), rows_, a.data(), 1);
  transposed_times<T>(a, -1.0 / mu_, v, 1.0 / mu_, out);
}

template <class T>
void LowRankPreconditioner::apply(std::span<const T> v, std::span<T> out) const {
  require_ready(v.size(), out.size());
  transposed_times<T>(jacobian_times(v), theta_ / static_cast<double>(sampled_), v, mu_, out);
}

double LowRankPreconditioner::inverse_quadratic(std::span<const double> rho) const {
  require_ready(rho.size(), rho.size());
  std::vector<double> a = jacobian_times(rho), rest(rho.size());
  cholesky_solve(factor_.data(), rows_, a.data(), 1);
  transposed_times<double>(a, -1.0, rho, 1.0, rest);
  return static_cast<double>(sampled_) / theta_ * dot(a, a) + dot(rest, rest) / mu_;
}

template void LowRankPreconditioner::apply_inverse(std::span<const float>, std::span<float>) const;
template void LowRankPreconditioner::apply_inverse(std::span<const double>, std::span<double>) const;
template void LowRankPreconditioner::apply(std::span<const float>, std::span<float>) const;
template void LowRankPreconditioner::apply(std::span<const double>, std::span<double>) const;

}  // namespace palimpsest
