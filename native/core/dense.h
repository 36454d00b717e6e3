// Dense matrices in float64, row-major: blocked products, Cholesky and triangular solves, the same bits on any threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace palimpsest {

// A read-only matrix [rows, columns] in memory of any two strides; it owns nothing.
template <class T>
struct MatrixView {
  const T* data;
  int64_t rows, columns;
  int64_t row_stride, column_stride;  // in elements

  const T& at(int64_t i, int64_t j) const { return data[i * row_stride + j * column_stride]; }
  MatrixView transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

template <class T>
MatrixView<T> row_major(const T* data, int64_t rows, int64_t columns) {
  return {data, rows, columns, columns, 1};
}

enum class Part { all, lower };  // lower: entries above the diagonal of the result are neither computed nor touched

// C += alpha A B, A [M, K], B [K, N], C [M, N] with rows `c_stride` apart; float32 entries are widened first.
// Every entry is summed over K in ascending order, in blocks of 256 that start from zero.
template <class T>
void multiply_add(double alpha, MatrixView<T> a, MatrixView<T> b, double* c, int64_t c_stride, Part part = Part::all);

// C += alpha A A^T, lower part, A [N, K], C [N, N].
template <class T>
void multiply_add_transposed(double alpha, MatrixView<T> a, double* c, int64_t c_stride) {
  multiply_add(alpha, a, a.transposed(), c, c_stride, Part::lower);
}

// Copies the lower triangle of A [n, n] to the upper one.
void mirror_lower(double* a, int64_t n);

// A = L L^T in place, A [n, n] given by its lower triangle; above the diagonal nothing is read or written.
// Throws ERR_INVALID_ARGUMENT where a pivot is not positive and finite (A is then partly overwritten).
void cholesky(double* a, int64_t n);

// B := L^-1 B and B := L^-T B, L [n, n] from cholesky, B [n, columns].
void solve_lower(const double* l, int64_t n, double* b, int64_t columns);
void solve_lower_transposed(const double* l, int64_t n, double* b, int64_t columns);

// B := (L L^T)^-1 B.
void cholesky_solve(const double* l, int64_t n, double* b, int64_t columns);

// sum_i x_i y_i and (sum_i x_i^2)^(1/2), in eight interleaved sums; n must agree.
double dot(std::span<const double> x, std::span<const double> y);
double norm(std::span<const double> x);

}  // namespace palimpsest
