// Blocked float64 linear algebra in plain loops: packed products, right-looking Cholesky, substitution by strips.
#include "core/dense.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "core/error.h"
#include "core/parallel.h"

namespace palimpsest {
namespace {

// A register tile is 4 x 4 (eight two-lane registers of sixteen); a packed block of A (64 x 256) stays in the second
// level cache, a packed block of B (256 x 512) in the third.
constexpr int64_t kTile = 4;
constexpr int64_t kBlockM = 64;
constexpr int64_t kBlockK = 256;
constexpr int64_t kBlockN = 512;
constexpr int64_t kPanel = 64;  // columns of a Cholesky step
constexpr int64_t kStrip = 8;   // right-hand sides of a substitution

int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }

// Rows [i0, i0 + kTile) x columns [k0, k0 + depth) of A, column by column, zeros below the matrix.
template <class T>
void pack(const MatrixView<T>& a, int64_t i0, int64_t k0, int64_t depth, double* out) {
  const int64_t rows = std::min(kTile, a.rows - i0);
  if (rows < kTile) std::fill_n(out, depth * kTile, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    const T* from = &a.at(i0 + i, k0);
    for (int64_t k = 0; k < depth; ++k) out[k * kTile + i] = static_cast<double>(from[k * a.column_stride]);
  }
}

// tile [4, 4] = sum_k a[k][i] b[k][j]
void multiply_tile(const double* __restrict a, const double* __restrict b, int64_t depth, double* __restrict tile) {
  double sum[kTile][kTile] = {};
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t i = 0; i < kTile; ++i) {
      for (int64_t j = 0; j < kTile; ++j) sum[i][j] += a[k * kTile + i] * b[k * kTile + j];
    }
  }
  for (int64_t i = 0; i < kTile; ++i) {
    for (int64_t j = 0; j < kTile; ++j) tile[i * kTile + j] = sum[i][j];
  }
}

void add_tile(const double* tile, double alpha, int64_t i0, int64_t j0, int64_t rows, int64_t columns, double* c,
              int64_t stride, Part part) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t end = part == Part::lower ? std::min(columns, i0 + i - j0 + 1) : columns;
    for (int64_t j = 0; j < end; ++j) c[(i0 + i) * stride + j0 + j] += alpha * tile[i * kTile + j];
  }
}

// Substitution with a diagonal block L [n, n] for kStrip right-hand sides x [n, kStrip] at once.
void solve_strip(const double* l, int64_t stride, int64_t n, double* __restrict x) {
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t s = 0; s < kStrip; ++s) x[j * kStrip + s] /= l[j * stride + j];
    for (int64_t i = j + 1; i < n; ++i) {
      const double factor = l[i * stride + j];
      for (int64_t s = 0; s < kStrip; ++s) x[i * kStrip + s] -= factor * x[j * kStrip + s];
    }
  }
}

void solve_strip_transposed(const double* l, int64_t stride, int64_t n, double* __restrict x) {
  for (int64_t j = n - 1; j >= 0; --j) {
    for (int64_t s = 0; s < kStrip; ++s) x[j * kStrip + s] /= l[j * stride + j];
    for (int64_t i = 0; i < j; ++i) {
      const double factor = l[j * stride + i];
      for (int64_t s = 0; s < kStrip; ++s) x[i * kStrip + s] -= factor * x[j * kStrip + s];
    }
  }
}

// Runs a substitution on B [n, columns], whose element (i, j) lies at b[i * row_stride + j * column_stride].
template <class Solve>
void solve_columns(int64_t n, double* b, int64_t columns, int64_t row_stride, int64_t column_stride,
                   const Solve& solve) {
  const double work = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(columns);
  parallel_for(blocks_of(columns, kStrip), work, [&](int64_t strip) {
    double x[kPanel * kStrip] = {};
    const int64_t j0 = strip * kStrip;
    const int64_t width = std::min(kStrip, columns - j0);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < width; ++j) x[i * kStrip + j] = b[i * row_stride + (j0 + j) * column_stride];
    }
    solve(x);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < width; ++j) b[i * row_stride + (j0 + j) * column_stride] = x[i * kStrip + j];
    }
  });
}

[[noreturn]] void refuse_pivot(int64_t index, int64_t n, double pivot) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", pivot);
  throw Error(ErrorCode::invalid_argument, "expected a positive definite matrix of order " + std::to_string(n) +
                                               ", got pivot " + text + " at row " + std::to_string(index));
}

void factor_diagonal(double* a, int64_t n, int64_t k0, int64_t width) {
  for (int64_t j = k0; j < k0 + width; ++j) {
    const double pivot = a[j * n + j];
    if (!(pivot > 0) || !std::isfinite(pivot)) refuse_pivot(j, n, pivot);
    const double root = std::sqrt(pivot);
    a[j * n + j] = root;
    for (int64_t i = j + 1; i < k0 + width; ++i) a[i * n + j] /= root;
    for (int64_t i = j + 1; i < k0 + width; ++i) {
      const double factor = a[i * n + j];
      for (int64_t p = j + 1; p <= i; ++p) a[i * n + p] -= factor * a[p * n + j];
    }
  }
}

MatrixView<double> block(const double* a, int64_t n, int64_t i0, int64_t j0, int64_t rows, int64_t columns) {
  return {a + i0 * n + j0, rows, columns, n, 1};
}

}  // namespace

template <class T>
void multiply_add(double alpha, MatrixView<T> a, MatrixView<T> b, double* c, int64_t c_stride, Part part) {
  if (a.columns != b.rows) throw Error(ErrorCode::internal, "product of matrices whose inner dimensions differ");
  const MatrixView<T> bt = b.transposed();
  const int64_t widest = std::min(kBlockN, blocks_of(b.columns, kTile) * kTile);
  std::vector<double> packed_b(static_cast<size_t>(widest * std::min(kBlockK, a.columns)));
  for (int64_t j0 = 0; j0 < b.columns; j0 += kBlockN) {
    const int64_t columns = std::min(kBlockN, b.columns - j0);
    for (int64_t k0 = 0; k0 < a.columns; k0 += kBlockK) {
      const int64_t depth = std::min(kBlockK, a.columns - k0);
      const double b_size = static_cast<double>(columns * depth);
      parallel_for(blocks_of(columns, kTile), 2 * b_size,
                   [&](int64_t j) { pack(bt, j0 + j * kTile, k0, depth, &packed_b[size_t(j * kTile * depth)]); });
      parallel_for(blocks_of(a.rows, kBlockM), static_cast<double>(a.rows) * b_size, [&](int64_t block_index) {
        const int64_t begin = block_index * kBlockM;
        const int64_t end = std::min(a.rows, begin + kBlockM);
        alignas(64) double packed_a[kTile * kBlockK];
        alignas(64) double tile[kTile * kTile];
        for (int64_t i = begin; i < end; i += kTile) {
          if (part == Part::lower && j0 > i + kTile - 1) continue;
          pack(a, i, k0, depth, packed_a);
          const int64_t rows = std::min(kTile, a.rows - i);
          const int64_t last = part == Part::lower ? std::min(columns, i + rows - j0) : columns;
          for (int64_t j = 0; j < last; j += kTile) {
            multiply_tile(packed_a, &packed_b[size_t(j * depth)], depth, tile);
            add_tile(tile, alpha, i, j0 + j, rows, std::min(kTile, columns - j), c, c_stride, part);
          }
        }
      });
    }
  }
}

template void multiply_add(double, MatrixView<float>, MatrixView<float>, double*, int64_t, Part);
template void multiply_add(double, MatrixView<double>, MatrixView<double>, double*, int64_t, Part);

void mirror_lower(double* a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) a[j * n + i] = a[i * n + j];
  }
}

void cholesky(double* a, int64_t n) {
  for (int64_t k0 = 0; k0 < n; k0 += kPanel) {
    const int64_t width = std::min(kPanel, n - k0);
    const int64_t below = k0 + width;
    const double* diagonal = a + k0 * n + k0;
    factor_diagonal(a, n, k0, width);
    if (below == n) break;
    // A21 := A21 L11^-T, a substitution whose right-hand sides are the rows of A21.
    solve_columns(width, a + below * n + k0, n - below, 1, n, [&](double* x) { solve_strip(diagonal, n, width, x); });
    multiply_add_transposed(-1.0, block(a, n, below, k0, n - below, width), a + below * n + below, n);
  }
}

void solve_lower(const double* l, int64_t n, double* b, int64_t columns) {
  for (int64_t k0 = 0; k0 < n; k0 += kPanel) {
    const int64_t width = std::min(kPanel, n - k0);
    const int64_t below = k0 + width;
    const double* diagonal = l + k0 * n + k0;
    double* solved = b + k0 * columns;
    solve_columns(width, solved, columns, columns, 1, [&](double* x) { solve_strip(diagonal, n, width, x); });
    multiply_add(-1.0, block(l, n, below, k0, n - below, width), row_major<double>(solved, width, columns),
                 b + below * columns, columns);
  }
}

void solve_lower_transposed(const double* l, int64_t n, double* b, int64_t columns) {
  for (int64_t k0 = (blocks_of(n, kPanel) - 1) * kPanel; k0 >= 0; k0 -= kPanel) {
    const int64_t width = std::min(kPanel, n - k0);
    const double* diagonal = l + k0 * n + k0;
    double* solved = b + k0 * columns;
    solve_columns(width, solved, columns, columns, 1,
                  [&](double* x) { solve_strip_transposed(diagonal, n, width, x); });
    multiply_add(-1.0, block(l, n, k0, 0, width, k0).transposed(), row_major<double>(solved, width, columns), b,
                 columns);
  }
}

void cholesky_solve(const double* l, int64_t n, double* b, int64_t columns) {
  solve_lower(l, n, b, columns);
  solve_lower_transposed(l, n, b, columns);
}

double dot(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size()) throw Error(ErrorCode::internal, "inner product of vectors of different lengths");
  double sum[8] = {};
  size_t i = 0;
  for (; i + 8 <= x.size(); i += 8) {
    for (size_t s = 0; s < 8; ++s) sum[s] += x[i + s] * y[i + s];
  }
  for (size_t s = 0; i < x.size(); ++i, ++s) sum[s] += x[i] * y[i];
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

double norm(std::span<const double> x) { return std::sqrt(dot(x, x)); }

}  // namespace palimpsest
