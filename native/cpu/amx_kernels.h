// Products of float32 matrices on AMX tiles, compiled apart and chosen at run time. Each float32 is split into three
// bfloat16 that together hold its 24 bits (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial
// intelligence datatype for higher-precision computations"), and of the nine products of parts the six that reach
// float32's precision are summed in float32: x y = x1 y1 + x1 y2 + x2 y1 + x1 y3 + x2 y2 + x3 y1 + O(2^-26 |x y|).
// Parts below 2^-126 count as zero. Infinities and factors above 3.39e38 become NaN.
#pragma once

#include <cstdint>

namespace palimpsest::cpu {

constexpr int64_t amx_rows = 16;   // of a tile: rows of the left factor, columns of the right one
constexpr int64_t amx_depth = 32;  // steps of k of a tile
constexpr int64_t amx_part = amx_rows * amx_depth;
constexpr int64_t amx_tile = 3 * amx_part;  // bfloat16 of a packed tile, 3 KiB

// c (+)= a b for `row_tiles` x `column_tiles` tiles of c, both 1 or 2, over `steps` tiles of k. Tile offsets are in
// packed tiles: step i reads a + a_at[i] and b + b_at[i]; the second row or column of tiles lies a_second, b_second on.
struct AmxProduct {
  int64_t steps;
  const uint16_t* a;
  const int32_t* a_at;
  int64_t a_second;
  const uint16_t* b;
  const int32_t* b_at;
  int64_t b_second;
  int64_t row_tiles, column_tiles;
  float* c = nullptr;      // the first element; columns lie side by side
  int64_t c_distance = 0;  // between rows
  int64_t c_second = 0;    // from the first tile's first row to the second tile's
  bool add = false;        // to what c holds
};

struct AmxKernels {
  // The tile registers of the calling thread: taken before `multiply`, given back after.
  void (*begin)();
  void (*end)();
  void (*multiply)(const AmxProduct& product);

  // One tile, zeros beyond what is there (at most amx_rows by amx_depth). Left factor: [part][row][k % 16][k / 16].
  void (*pack_left)(int64_t rows, int64_t depth, const float* from, int64_t row_distance, uint16_t* tile);
  void (*pack_left_by_columns)(int64_t rows, int64_t depth, const float* from, int64_t depth_distance, uint16_t* tile);
  // Right factor: [part][k % 16][column][k / 16].
  void (*pack_right)(int64_t columns, int64_t depth, const float* from, int64_t depth_distance, uint16_t* tile);
  void (*pack_right_by_columns)(int64_t columns, int64_t depth, const float* from, int64_t column_distance,
                                uint16_t* tile);
  // The same, amx_depth steps that lie anywhere: step k starts at at[k] + offset, and is zero where at[k] is null.
  void (*pack_left_at)(int64_t rows, const float* const* at, int64_t offset, uint16_t* tile);
  void (*pack_right_at)(int64_t columns, const float* const* at, int64_t offset, uint16_t* tile);

  // sums[i] += x[i]^2 for i < count, a multiple of 16; both 64-byte aligned.
  void (*add_squares)(int64_t count, const float* x, float* sums);
};

// Null where this build does not contain them.
const AmxKernels* amx_kernels_of_build();
// Asks the system for the tile registers, once a process; false where it does not grant them or has none.
bool amx_granted();

}  // namespace palimpsest::cpu
