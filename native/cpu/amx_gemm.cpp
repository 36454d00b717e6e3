// Matrix products on AMX tiles: blocks of both factors packed by the thread that uses them, small enough to stay in its
// second-level cache.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/amx.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

constexpr int64_t pair = 2 * amx_rows;  // rows and columns of one call of the kernel
constexpr int64_t depth_block = 8;      // tiles of k that are packed at a time
constexpr int64_t column_block = 512;   // columns, likewise: 768 KiB of tiles

bool worth(const GemmShape& s) {
  constexpr double least_work = 64.0 * 64 * 64, most_waste = 1.6;
  const double work = static_cast<double>(s.m) * s.n * s.k;
  const double tiles = static_cast<double>(ceil_div(s.m, amx_rows) * ceil_div(s.n, amx_rows)) *
                       ceil_div(s.k, amx_depth) * amx_rows * amx_rows * amx_depth;
  return work >= least_work && tiles <= most_waste * work;
}

struct Rectangle {
  const float* a;
  const float* b;
  float* c;
  int64_t row_begin, row_end, column_begin, column_end;
};

using Pack = decltype(AmxKernels::pack_left);

// A factor as it lies: steps of k one after the other, or rows (of b: columns) one after the other.
struct Side {
  const float* from;
  int64_t distance;
  bool by_steps;
  Pack pack;
};

// Tile (i, step) of rows or columns [first, first + count) and steps [k, k + depth) lies at i depth_block + step.
void pack_side(const Side& side, int64_t k, int64_t depth, int64_t first, int64_t count, uint16_t* packed) {
  for (int64_t i = 0; i < count; i += amx_rows, packed += depth_block * amx_tile) {
    for (int64_t d = 0; d < depth; d += amx_depth) {
      const int64_t at = side.by_steps ? (k + d) * side.distance + first + i : (first + i) * side.distance + k + d;
      side.pack(std::min(amx_rows, count - i), std::min(amx_depth, depth - d), side.from + at, side.distance,
                packed + d / amx_depth * amx_tile);
    }
  }
}

void multiply(const AmxKernels& kernels, const GemmShape& s, const Rectangle& r, uint16_t* a_tiles, uint16_t* b_tiles) {
  int32_t steps[depth_block];
  std::iota(steps, steps + depth_block, 0);
  const Side a{r.a, s.lda, s.trans_a, s.trans_a ? kernels.pack_left_by_columns : kernels.pack_left};
  const Side b{r.b, s.ldb, !s.trans_b, s.trans_b ? kernels.pack_right_by_columns : kernels.pack_right};
  for (int64_t column = r.column_begin; column < r.column_end; column += column_block) {
    const int64_t columns = std::min(column_block, r.column_end - column);
    for (int64_t k = 0; k < s.k; k += depth_block * amx_depth) {
      const int64_t depth = std::min(depth_block * amx_depth, s.k - k);
      const float beta = k == 0 ? static_cast<float>(s.beta) : 1.0f;
      pack_side(b, k, depth, column, columns, b_tiles);
      for (int64_t row = r.row_begin; row < r.row_end; row += pair) {
        const int64_t rows = std::min(pair, r.row_end - row);
        pack_side(a, k, depth, row, rows, a_tiles);
        for (int64_t j = 0; j < columns; j += pair) {
          const int64_t width = std::min(pair, columns - j);
          const AmxProduct product{.steps = ceil_div(depth, amx_depth),
                                   .a = a_tiles,
                                   .a_at = steps,
                                   .a_second = depth_block,
                                   .b = b_tiles + j / amx_rows * depth_block * amx_tile,
                                   .b_at = steps,
                                   .b_second = depth_block,
                                   .row_tiles = ceil_div(rows, amx_rows),
                                   .column_tiles = ceil_div(width, amx_rows)};
          multiply_into(kernels, product,
                        {r.c + row * s.ldc + column + j, s.ldc, amx_rows * s.ldc, rows, width,
                         static_cast<float>(s.alpha), beta});
        }
      }
    }
  }
}

}  // namespace

void multiply_into(const AmxKernels& kernels, AmxProduct product, const AmxOut& out) {
  const bool whole = out.rows == product.row_tiles * amx_rows && out.columns == product.column_tiles * amx_rows;
  if (whole && out.alpha == 1 && (out.beta == 0 || out.beta == 1)) {
    product.c = out.c, product.c_distance = out.distance, product.c_second = out.second, product.add = out.beta == 1;
    return kernels.multiply(product);
  }
  alignas(64) float block[pair * pair];
  product.c = block, product.c_distance = pair, product.c_second = amx_rows * pair, product.add = false;
  kernels.multiply(product);
  for (int64_t row = 0; row < out.rows; ++row) {
    float* to = out.c + row / amx_rows * out.second + row % amx_rows * out.distance;
    const float* from = block + row * pair;
    for (int64_t j = 0; j < out.columns; ++j) {
      to[j] = out.beta == 0 ? out.alpha * from[j] : out.alpha * from[j] + out.beta * to[j];
    }
  }
}

bool amx_gemm(const GemmShape& s, const float* a, const float* b, float* c) {
  const AmxKernels* kernels = amx_kernels();
  if (kernels == nullptr || s.batch == 0 || s.m == 0 || s.n == 0 || s.k == 0 || !worth(s)) return false;
  const int64_t row_units = ceil_div(s.m, pair), column_units = ceil_div(s.n, pair), threads = thread_count();
  // Each share packs what it reads: cut the side that leaves the smaller largest share, then the one that packs less.
  const int64_t by_rows = ceil_div(s.batch * row_units, threads),
                by_columns = ceil_div(s.batch * column_units, threads);
  const int64_t largest_by_rows = by_rows * column_units, largest_by_columns = by_columns * row_units;
  const bool cut_rows = largest_by_rows < largest_by_columns || (largest_by_rows == largest_by_columns && s.m >= s.n);
  const int64_t units = cut_rows ? row_units : column_units, extent = cut_rows ? s.m : s.n;
  constexpr int64_t a_size = 2 * depth_block * amx_tile;
  const int64_t b_size = std::min(column_block, column_units * pair) / amx_rows * depth_block * amx_tile;
  uint16_t* memory = workspace<uint16_t>(Slot::amx_right, threads * (a_size + b_size));
  parallel_for(s.batch * units, 2.0 * s.batch * s.m * s.n * s.k / 64, [&](int64_t begin, int64_t end, int thread) {
    uint16_t* a_tiles = memory + thread * (a_size + b_size);
    kernels->begin();
    while (begin < end) {
      const int64_t i = begin / units, first = begin % units, count = std::min(units - first, end - begin);
      Rectangle r{a + i * s.stride_a, b + i * s.stride_b, c + i * s.stride_c, 0, s.m, 0, s.n};
      (cut_rows ? r.row_begin : r.column_begin) = first * pair;
      (cut_rows ? r.row_end : r.column_end) = std::min(extent, (first + count) * pair);
      multiply(*kernels, s, r, a_tiles, a_tiles + a_size);
      begin += count;
    }
    kernels->end();
  });
  return true;
}

}  // namespace palimpsest::cpu
