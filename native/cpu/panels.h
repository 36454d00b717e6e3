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

// to[p width + j] = from[p distance + j] for j < columns, zeros up to `width`; pack_whole packs all of `width`.
template <typename T>
void pack_part(int64_t count, const T* from, int64_t distance, int64_t columns, int64_t width,
               void (*pack_whole)(int64_t, const T*, int64_t, T*), T* to) {
  if (columns == width) return pack_whole(count, from, distance, to);
  for (int64_t p = 0; p < count; ++p, from += distance, to += width) {
    for (int64_t j = 0; j < columns; ++j) to[j] = from[j];
    for (int64_t j = columns; j < width; ++j) to[j] = 0;
  }
}

// B's rows [0, k) of `columns` columns, `distance` apart, as panels of tile_columns, panel_distance apart.
template <typename T>
void pack_panels(const TypedKernels<T>& kernels, int64_t k, const T* from, int64_t distance, int64_t columns, T* to,
                 int64_t panel_distance) {
  const int64_t width = kernels.tile_columns;
  for (int64_t j = 0; j < columns; j += width, to += panel_distance) {
    pack_part(k, from + j, distance, std::min(width, columns - j), width, kernels.pack_tile_columns, to);
  }
}

}  // namespace palimpsest::cpu
