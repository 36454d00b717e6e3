// Gram matrix, Woodbury's formula and the two passes over the sampled Jacobian.
#include "curvature/low_rank.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "core/dense.h"
#include "core/error.h"
#include "core/parallel.h"

namespace palimpsest {
namespace {

constexpr int64_t kRows = 4;            // rows of J that share one pass over v
constexpr int64_t kLanes = 4;           // interleaved sums of an inner product
constexpr int64_t kGramColumns = 4096;  // columns whose products are summed in float32

// A dense matrix for the backend, which does not write what it reads.
Tensor matrix(const float* data, int64_t rows, int64_t columns) {
  return dense_tensor(const_cast<float*>(data), DType::f32, {rows, columns});
}
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
                                             int64_t sampled, std::shared_ptr<Backend> backend)
    : jacobian_(std::make_shared<const std::vector<float>>(std::move(jacobian))),
      rows_(rows),
      parameters_(parameters),
      sampled_(sampled),
      backend_(std::move(backend)) {
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
  make_gram(backend_ != nullptr);
}

// J J^T in float64, or by float32 products over blocks of columns that are added in float64.
void LowRankPreconditioner::make_gram(bool narrow) {
  const auto entries = static_cast<size_t>(rows_ * rows_);
  auto gram = std::make_shared<std::vector<double>>(entries, 0.0);
  if (narrow) {
    std::vector<float> part(entries);
    for (int64_t j = 0; j < parameters_; j += kGramColumns) {
      GemmShape shape;
      shape.m = shape.n = rows_;
      shape.k = std::min(kGramColumns, parameters_ - j);
      shape.trans_b = true;
      shape.lda = shape.ldb = parameters_;
      shape.ldc = rows_;
      const Tensor block = matrix(jacobian_->data() + j, rows_, shape.k);
      backend_->gemm(shape, block, block, matrix(part.data(), rows_, rows_));
      for (size_t i = 0; i < entries; ++i) (*gram)[i] += static_cast<double>(part[i]);
    }
  } else {
    multiply_add_transposed(1.0, row_major<float>(jacobian_->data(), rows_, parameters_), gram->data(), rows_);
  }
  gram_ = std::move(gram);
  narrow_gram_ = narrow;
}

void LowRankPreconditioner::factor(double theta, double mu) {
  const double ridge = static_cast<double>(sampled_) * mu / theta;
  if (!(theta > 0) || !(mu > 0) || !std::isfinite(theta) || !std::isfinite(mu) || !std::isfinite(ridge)) {
    char text[80];
    std::snprintf(text, sizeof text, "expected theta > 0 and damping > 0, got %.9g and %.9g", theta, mu);
    throw Error(ErrorCode::invalid_argument, text);
  }
  if (narrow_gram_) {
    // |error| <= 2^-18 trace(J J^T) with much to spare: the inverse stays positive definite while that is below the
    // ridge.
    double trace = 0;
    for (int64_t i = 0; i < rows_; ++i) trace += (*gram_)[static_cast<size_t>(i * rows_ + i)];
    if (!(std::ldexp(trace, -16) < ridge)) make_gram(false);
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

// c [m, n] = J b (transposed: b J), one side of it a vector.
void LowRankPreconditioner::multiply(int64_t m, int64_t n, int64_t k, bool transposed, const float* b, float* c) const {
  GemmShape shape;
  shape.m = m, shape.n = n, shape.k = k;
  shape.lda = transposed ? k : parameters_;
  shape.ldb = transposed ? parameters_ : n;
  shape.ldc = n;
  const Tensor j = matrix(jacobian_->data(), rows_, parameters_);
  const Tensor vector = matrix(b, transposed ? m : k, transposed ? k : n);
  backend_->gemm(shape, transposed ? vector : j, transposed ? j : vector, matrix(c, m, n));
}

void LowRankPreconditioner::apply_inverse_narrow(std::span<const float> v, std::span<float> out) const {
  std::vector<float> jv(static_cast<size_t>(rows_)), rest(static_cast<size_t>(parameters_));
  multiply(rows_, 1, parameters_, false, v.data(), jv.data());
  std::vector<double> a(jv.begin(), jv.end());
  cholesky_solve(factor_.data(), rows_, a.data(), 1);
  for (size_t i = 0; i < a.size(); ++i) jv[i] = static_cast<float>(a[i]);
  multiply(1, parameters_, rows_, true, jv.data(), rest.data());
  for (size_t j = 0; j < rest.size(); ++j) {
    out[j] = static_cast<float>((static_cast<double>(v[j]) - static_cast<double>(rest[j])) / mu_);
  }
}

template <class T>
void LowRankPreconditioner::apply_inverse(std::span<const T> v, std::span<T> out) const {
  require_ready(v.size(), out.size());
  if constexpr (std::is_same_v<T, float>) {
    if (backend_) return apply_inverse_narrow(v, out);
  }
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
