// The innermost loops, compiled once per instruction set and chosen at run time: tables of plain function pointers.
// The instruction-set files include this header and their own *.inc only: an inline function of a shared header,
// compiled there with AVX-512, could be the copy that the linker keeps for everybody.
#pragma once

#include <cstdint>

namespace palimpsest::cpu {

constexpr int unary_count = 23;  // of enum Unary
constexpr int code_count = 10;   // of enum Code
constexpr int most_tile_rows = 16;

// Steps of k that one pass of the matrix product takes, and the distance of the rows of A packed by rows. The extra
// cache line keeps the rows out of each other's cache sets.
constexpr int64_t gemm_depth = 256;
template <typename T>
constexpr int64_t packed_row = gemm_depth + 64 / static_cast<int64_t>(sizeof(T));

// What a tile of the matrix product does with its result t = a b: c = alpha t + beta c (c is not read for beta 0).
template <typename T>
struct TileOut {
  T* const* rows;   // row pointers of c, as many as the tile has rows
  int64_t columns;  // columns to write, at most tile_columns
  T alpha, beta;
};

// Positions that a product runs over where its factors lie: rows of them, and the elements from one to the next.
struct PositionGrid {
  int64_t height, width;
  int64_t a_row, a_column, b_row, b_column;
};

// d[i] = f(a[i], b[i], c[i]) for i < n.
template <typename T>
using MapKernel = void (*)(const T* a, const T* b, const T* c, T* d, int64_t n, T alpha, T beta);

template <typename T>
struct TypedKernels {
  int64_t tile_rows, tile_columns;

  // Tiles of rows <= tile_rows by tile_columns. A by rows: a[r packed_row + p]; by columns: a[p tile_rows + r].
  // B is b[p tile_columns + j]. Rows above `rows` of A may hold anything.
  void (*multiply_by_rows)(int64_t rows, int64_t k, const T* a, const T* b, const TileOut<T>& out);
  void (*multiply_by_columns)(int64_t rows, int64_t k, const T* a, const T* b, const TileOut<T>& out);
  // c += sum over examples of (a[e] b[e])^2, A by columns; the examples' panels lie a_distance and b_distance apart.
  void (*square_by_columns)(int64_t rows, int64_t examples, int64_t k, const T* a, int64_t a_distance, const T* b,
                            int64_t b_distance, const TileOut<T>& out);
  // The same with both factors unpacked: a[position][r], b[position][j]; out.columns is tile_columns or one vector.
  void (*square_in_place)(int64_t rows, int64_t examples, const PositionGrid& grid, const T* a, int64_t a_distance,
                          const T* b, int64_t b_distance, const TileOut<T>& out);
  int64_t lanes;  // elements of a vector

  // to[p tile_rows + r] = from[p distance + r] for whole tiles of rows; the same for tile_columns.
  void (*pack_tile_rows)(int64_t count, const T* from, int64_t distance, T* to);
  void (*pack_tile_columns)(int64_t count, const T* from, int64_t distance, T* to);
  // to[c to_distance + r] = from[r from_distance + c]
  void (*transpose)(int64_t rows, int64_t columns, const T* from, int64_t from_distance, T* to, int64_t to_distance);
  // to[c width + r] = from[r from_distance + c], zeros from `rows` up to `width`, a whole number of vectors.
  void (*transpose_padded)(int64_t rows, int64_t columns, const T* from, int64_t from_distance, int64_t width, T* to);

  MapKernel<T> unary[unary_count][3];
  MapKernel<T> binary[code_count];  // null for Code::unary

  // Sums in float64, in an order that depends on n only.
  double (*sum)(const T* x, int64_t n);
  double (*sum_squared_distance)(const T* x, double center, int64_t n);
  double (*dot)(const T* x, const T* y, int64_t n);
  // sums[j] += sum_i x[i stride + j], and of (x - center[j])^2.
  void (*add_rows)(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums);
  void (*add_rows_squared)(const T* x, int64_t rows, int64_t stride, int64_t columns, const double* center,
                           double* sums);

  // sums[j] += sum_i max(x[i columns + j], 0), in float64; NaN stays NaN.
  void (*add_positive_rows)(const T* x, int64_t rows, int64_t columns, double* sums);

  T (*max)(const T* x, int64_t n);                                     // NaN where x has one
  double (*exp_sum)(const T* x, T center, T* y, int64_t n);            // y = e^(x - center); their sum
  void (*axpy)(T alpha, const T* x, T* y, int64_t n);                  // y += alpha x
  void (*shift_scale)(const T* x, T shift, T scale, T* y, int64_t n);  // y = (x - shift) scale
  void (*sgd)(T rate, T momentum, T decay, bool nesterov, const T* g, T* v, T* w, int64_t n);  // v may be null

  // y[c] = sum_t x[t][c] w[w_rows[t] channels + c], a channels-last position of a depthwise convolution.
  void (*depthwise)(int64_t taps, const T* const* x, const T* const* w, int64_t channels, T* y);
  // sums[c] += sum_j x[j x_stride + c] y[j y_stride + c].
  void (*add_products)(int64_t count, const T* x, int64_t x_stride, const T* y, int64_t y_stride, int64_t channels,
                       T* sums);
  // best[c] = max over the positions of x[p][c], the first NaN where there is one; at[c] = places[p] of it.
  void (*max_pool)(int64_t positions, const T* const* x, const int32_t* places, int64_t channels, T* best, int32_t* at);
};

struct IsaKernels {
  TypedKernels<float> f32;
  TypedKernels<double> f64;
};

// Null where this build does not contain the set.
const IsaKernels* baseline_kernels();
const IsaKernels* avx2_kernels();
const IsaKernels* avx512_kernels();

}  // namespace palimpsest::cpu
