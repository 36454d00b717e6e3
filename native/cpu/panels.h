// Blocked matrix products out of packed panels: what GEMM, convolution and the per-example squares have in common.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/isa_kernels.h"

namespace palimpsest::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Columns of B, in whole panels, of which a block of gemm_depth rows stays in the second-level cache.
template <typename T>
int64_t block_columns(const TypedKernels<T>& kernels) {
  constexpr int64_t cache_bytes = 512 * 1024;
  const int64_t columns = cache_bytes / (gemm_depth * static_cast<int64_t>(sizeof(T)));
  return std::max<int64_t>(1, columns / kernels.tile_columns) * kernels.tile_columns;
}

// Elements of a packed panel of A, by rows or by columns, with room for a read past the end.
template <typename T>
constexpr int64_t panel_elements = most_tile_rows* packed_row<T>;

// Rows of the product: c[m] += a[m] b for m in [begin, end). pack(m, rows, panel) packs A's rows m.. for these k steps;
// row(m) is where the product's row starts; b is panels of tile_columns, each k deep, panel_distance apart.
template <typename T, class Pack, class Row>
void multiply_rows(const TypedKernels<T>& kernels, bool by_rows, int64_t begin, int64_t end, int64_t k, const T* b,
                   int64_t panel_distance, int64_t columns, T alpha, T beta, T* panel, Pack pack, Row row) {
  const auto multiply = by_rows ? kernels.multiply_by_rows : kernels.multiply_by_columns;
  for (int64_t m = begin; m < end; m += kernels.tile_rows) {
    const int64_t rows = std::min(kernels.tile_rows, end - m);
    pack(m, rows, panel);
    T* c[most_tile_rows];
    for (int64_t r = 0; r < rows; ++r) c[r] = row(m + r);
    for (int64_t j = 0; j < columns; j += kernels.tile_columns) {
      multiply(rows, k, panel, b + j / kernels.tile_columns * panel_distance,
               {c, std::min(kernels.tile_columns, columns - j), alpha, beta});
      for (int64_t r = 0; r < rows; ++r) c[r] += kernels.tile_columns;
    }
  }
}

// Packs rows of contiguous columns, source(p) the p-th row: panel[p][j] = source(p)[j], columns up to `width` zero.
template <typename T, class Source>
void pack_panel(int64_t k, int64_t columns, int64_t width, T* panel, Source source) {
  for (int64_t p = 0; p < k; ++p, panel += width) {
    const T* from = source(p);
    for (int64_t j = 0; j < columns; ++j) panel[j] = from[j];
    for (int64_t j = columns; j < width; ++j) panel[j] = 0;
  }
}

}  // namespace palimpsest::cpu
