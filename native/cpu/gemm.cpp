// Portable matrix product: panels packed a thread, register tiles of the instruction set in use.
#include "cpu/gemm.h"

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// A rectangle of one product of the batch.
template <typename T>
struct Product {
  const GemmShape& shape;
  const T* a;
  const T* b;
  T* c;
  int64_t row_begin, row_end, column_begin, column_end;
};

template <typename T>
void pack_b(const TypedKernels<T>& kernels, const Product<T>& product, int64_t k_begin, int64_t k, int64_t column,
            int64_t columns, T* packed) {
  const GemmShape& shape = product.shape;
  const int64_t width = kernels.tile_columns;
  if (!shape.trans_b) {
    return pack_panels(kernels, k, product.b + k_begin * shape.ldb + column, shape.ldb, columns, packed, k * width);
  }
  for (int64_t j = 0; j < columns; j += width, packed += k * width) {
    const int64_t count = std::min(width, columns - j);
    kernels.transpose_padded(count, k, product.b + (column + j) * shape.ldb + k_begin, shape.ldb, width, packed);
  }
}

// A's rows m.. of steps [k_begin, k_begin + k): by rows as it lies, by columns where it is transposed.
template <typename T>
void pack_a(const TypedKernels<T>& kernels, const Product<T>& product, int64_t k_begin, int64_t k, int64_t m,
            int64_t rows, T* panel) {
  const GemmShape& shape = product.shape;
  if (shape.trans_a) {
    return pack_part(k, product.a + k_begin * shape.lda + m, shape.lda, rows, kernels.tile_rows, kernels.pack_tile_rows,
                     panel);
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(panel + r * packed_row<T>, product.a + (m + r) * shape.lda + k_begin, k * sizeof(T));
  }
}

template <typename T>
void multiply(const TypedKernels<T>& kernels, const Product<T>& product, T* a_panel, T* b_panels) {
  const GemmShape& shape = product.shape;
  const int64_t block = block_columns(kernels);
  for (int64_t column = product.column_begin; column < product.column_end; column += block) {
    const int64_t columns = std::min(block, product.column_end - column);
    for (int64_t k_begin = 0; k_begin < shape.k; k_begin += gemm_depth) {
      const int64_t k = std::min(gemm_depth, shape.k - k_begin);
      pack_b(kernels, product, k_begin, k, column, columns, b_panels);
      multiply_rows(
          kernels, !shape.trans_a, product.row_begin, product.row_end, k, b_panels, k * kernels.tile_columns, columns,
          static_cast<T>(shape.alpha), k_begin == 0 ? static_cast<T>(shape.beta) : T(1), a_panel,
          [&](int64_t m, int64_t rows, T* panel) { pack_a(kernels, product, k_begin, k, m, rows, panel); },
          [&](int64_t m) { return product.c + m * shape.ldc + column; });
    }
  }
}

template <typename T>
void scale_only(const GemmShape& shape, T* c) {
  for (int64_t i = 0; i < shape.batch; ++i) {
    for (int64_t m = 0; m < shape.m; ++m) {
      T* row = c + i * shape.stride_c + m * shape.ldc;
      for (int64_t n = 0; n < shape.n; ++n) row[n] = shape.beta == 0 ? T(0) : static_cast<T>(shape.beta) * row[n];
    }
  }
}

}  // namespace

template <typename T>
void gemm(const GemmShape& shape, const T* a, const T* b, T* c) {
  if (shape.batch == 0 || shape.m == 0 || shape.n == 0) return;
  if (shape.k == 0) return scale_only(shape, c);
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t row_units = ceil_div(shape.m, kernels.tile_rows);
  const int64_t column_units = ceil_div(shape.n, kernels.tile_columns);
  // Each share packs what it reads: cut the side that leaves the smaller largest share.
  const int64_t threads = thread_count();
  const int64_t by_rows = ceil_div(shape.batch * row_units, threads) * kernels.tile_rows * shape.n;
  const int64_t by_columns = ceil_div(shape.batch * column_units, threads) * kernels.tile_columns * shape.m;
  const bool cut_rows = by_rows <= by_columns;
  const int64_t units = cut_rows ? row_units : column_units;
  const int64_t unit = cut_rows ? kernels.tile_rows : kernels.tile_columns;
  const int64_t extent = cut_rows ? shape.m : shape.n;

  const int64_t share = whole_lines<T>(
      panel_elements<T> + gemm_depth * std::min(block_columns(kernels), column_units * kernels.tile_columns));
  T* memory = workspace<T>(Slot::gemm, threads * share);
  const double work = 2.0 * shape.batch * shape.m * shape.n * shape.k / 16;
  parallel_for(shape.batch * units, work, [&](int64_t begin, int64_t end, int thread) {
    T* panels = memory + thread * share;
    while (begin < end) {
      const int64_t i = begin / units, first = begin % units;
      const int64_t count = std::min(units - first, end - begin);
      Product<T> product{shape,  a + i * shape.stride_a, b + i * shape.stride_b, c + i * shape.stride_c, 0, shape.m, 0,
                         shape.n};
      (cut_rows ? product.row_begin : product.column_begin) = first * unit;
      (cut_rows ? product.row_end : product.column_end) = std::min(extent, (first + count) * unit);
      multiply(kernels, product, panels, panels + panel_elements<T>);
      begin += count;
    }
  });
}

template void gemm<float>(const GemmShape&, const float*, const float*, float*);
template void gemm<double>(const GemmShape&, const double*, const double*, double*);

}  // namespace palimpsest::cpu
