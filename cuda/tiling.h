// Which tiles a product is cut into, and into how many parts its sum: a function of the shape and the device alone.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/backend.h"
#include "cuda/device.h"
#include "cuda/tile.h"

namespace palimpsest::cuda {

// The tiles of each kind of arithmetic; those of squares hold every sum twice.
struct FloatTiles {
  using Large = FloatTile<4, 2, 2, 2, 8, 2>;          // 128 x 128
  using Small = FloatTile<2, 2, 2, 1, 16, 4>;         // 64 x 64
  using LargeSquares = FloatTile<4, 2, 2, 1, 16, 2>;  // 128 x 64
  using SmallSquares = FloatTile<2, 2, 2, 1, 16, 4>;
};
struct Tf32Tiles {
  using Large = Tf32Tile<4, 2, 8, 2>;         // 128 x 128
  using Small = Tf32Tile<2, 2, 4, 4>;         // 64 x 64
  using LargeSquares = Tf32Tile<4, 2, 4, 2>;  // 128 x 64
  using SmallSquares = Tf32Tile<2, 2, 4, 4>;
};
struct DoubleTiles {
  using Large = DoubleTile<4, 2, 2>;         // 128 x 64
  using Small = DoubleTile<2, 2, 4>;         // 64 x 64
  using LargeSquares = DoubleTile<4, 2, 1>;  // 128 x 64
  using SmallSquares = DoubleTile<2, 2, 2>;
};

// run(tiles) with the tiles of T in the precision that the device was asked for.
template <class T, class Run>
void with_tiles(const Device& device, Run run) {
  if constexpr (sizeof(T) == 8) run(DoubleTiles{});
  else if (device.precision() == Precision::tf32) run(Tf32Tiles{});
  else run(FloatTiles{});
}

struct TileSize {
  int64_t m, n, k;
  double cost;  // of a product of two numbers, the large tile's being 1
};
template <class Tile>
constexpr TileSize size_of_tile(double cost) {
  return {Tile::m, Tile::n, Tile::k, cost};
}

struct Tiling {
  bool large = true;
  int64_t tiles_m = 0, tiles_n = 0;
  int64_t parts = 1, steps = 0;  // parts of the sum, and steps of a part
};

// The product [batch] (m, n) of `depth` terms whose sum may be cut every `unit` terms into at most `most_parts`.
// Estimates the products that the busiest multiprocessor works on, and what adding the parts up costs in such units.
inline Tiling choose_tiling(const TileSize& large, const TileSize& small, int64_t multiprocessors, int64_t batch,
                            int64_t m, int64_t n, int64_t steps_of_large, int64_t steps_of_small, int64_t most_parts) {
  constexpr double value_moved = 24;     // in products of a multiprocessor
  constexpr double second_kernel = 4e5;  // starting it
  constexpr double alone = 1.4;          // one block leaves the units idle while it waits
  constexpr int64_t least_depth = 64;    // terms of a part
  Tiling best;
  double best_time = std::numeric_limits<double>::infinity();
  for (const bool is_large : {true, false}) {
    const TileSize& tile = is_large ? large : small;
    const int64_t steps = is_large ? steps_of_large : steps_of_small;
    const int64_t tiles_m = (m + tile.m - 1) / tile.m, tiles_n = (n + tile.n - 1) / tile.n;
    for (int64_t wanted = 1; wanted <= most_parts; wanted += std::max<int64_t>(1, wanted / 2)) {
      const int64_t of_part = std::max<int64_t>(1, (steps + wanted - 1) / wanted);
      const int64_t parts = std::max<int64_t>(1, (steps + of_part - 1) / of_part);
      if (wanted > 1 && (parts != wanted || of_part * tile.k < least_depth)) continue;
      const auto blocks = static_cast<double>(tiles_m * tiles_n * batch * parts);
      const double rounds = std::ceil(blocks / static_cast<double>(multiprocessors));
      const auto depth = static_cast<double>(of_part * tile.k + 2 * tile.k);  // the pipeline fills and drains
      double time = rounds * static_cast<double>(tile.m * tile.n) * tile.cost * depth * (rounds <= 1 ? alone : 1);
      if (parts > 1) {
        time += second_kernel + value_moved * static_cast<double>(2 * parts) * static_cast<double>(batch * m) *
                                    static_cast<double>(n) / static_cast<double>(multiprocessors);
      }
      if (time < best_time) {
        best_time = time;
        best = {is_large, tiles_m, tiles_n, parts, of_part};
      }
    }
  }
  return best;
}

// Parts whose sums fit into `bytes` of working memory.
inline int64_t parts_that_fit(int64_t values, size_t size, int64_t bytes = int64_t{256} << 20) {
  return std::clamp<int64_t>(bytes / std::max<int64_t>(1, values * static_cast<int64_t>(size)), 1, 256);
}

// The tile that a block works on: bands of 8 tiles of rows, within them tiles of columns, so that blocks which run at
// the same time share what they read.
struct TilePlace {
  int m, n;
};
__device__ __forceinline__ TilePlace tile_place(int index, int tiles_m, int tiles_n) {
  constexpr int band = 8;
  const int of_band = band * tiles_n, first = index / of_band * band, inside = index % of_band;
  const int rows = tiles_m - first < band ? tiles_m - first : band;
  return {first + inside % rows, inside / rows};
}

// A size that kernels count in 32 bits, with room for a tile beyond the end.
inline int to_count(int64_t value, const char* what) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1024;
  if (value >= 0 && value <= most) return static_cast<int>(value);
  throw Error(ErrorCode::unsupported, std::string("expected at most ") + std::to_string(most) + " " + what +
                                          " in one CUDA kernel, got " + std::to_string(value));
}

// Whether a pointer and every offset that is added to it are whole packs of T.
template <class T>
bool is_aligned(const void* data, std::initializer_list<int64_t> offsets) {
  constexpr int64_t count = 16 / sizeof(T);
  bool aligned = reinterpret_cast<size_t>(data) % 16 == 0;
  for (const int64_t offset : offsets) aligned &= offset % count == 0;
  return aligned;
}

}  // namespace palimpsest::cuda
