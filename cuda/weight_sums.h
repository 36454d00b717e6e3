// Sums over positions: products of patches(x) and y_bar for the weight gradient, and their squares example by example.
#pragma once

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/panel.h"
#include "cuda/patches.h"
#include "cuda/tiling.h"

namespace palimpsest::cuda {

// sums [parts][groups][m][n] of sources a (m) and b (n); steps of the sum of a part.
template <class T>
struct WeightSums {
  T* sums;
  int m, n, tiles_m, tiles_n;
  int steps, all_steps;
  int steps_of_example;  // for squares
  bool aligned;
};

template <class Tile, class T>
__device__ __forceinline__ void store_sums(const Tile& tile, const WeightSums<T>& s, int first_m, int first_n,
                                           const T (&sum)[Tile::sums]) {
  T* sums = s.sums + (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * s.m * s.n;
  tile.each([&](int row, int column, int at) {
    const int m = first_m + row, n = first_n + column;
    if (m < s.m) store_run<Tile::run>(sums + static_cast<int64_t>(m) * s.n + n, sum + at, s.n - n, s.aligned);
  });
}

// One block a tile of a part of a group (grid: tiles, groups, parts).
template <class Tile, class MakeA, class MakeB>
__global__ __launch_bounds__(Tile::threads,
                             Tile::blocks) void weight_sums_kernel(const WeightSums<typename Tile::Value> s,
                                                                   const MakeA make_a, const MakeB make_b) {
  using T = typename Tile::Value;
  const TilePlace place = tile_place(static_cast<int>(blockIdx.x), s.tiles_m, s.tiles_n);
  const int first_m = place.m * Tile::m, first_n = place.n * Tile::n;
  const int first = static_cast<int>(blockIdx.z) * s.steps;
  const int last = first + s.steps < s.all_steps ? first + s.steps : s.all_steps;
  const Tile tile;
  T sum[Tile::sums] = {};
  multiply_steps<Tile, false>(tile, make_a.source(), first_m, make_b.source(), first_n, first, last, sum, [](int) {});
  store_sums(tile, s, first_m, first_n, sum);
}

// s = sum over examples of the squares of an example's sums, which stay in registers.
template <class Tile, class MakeA, class MakeB>
__global__ __launch_bounds__(Tile::threads,
                             Tile::blocks) void square_sums_kernel(const WeightSums<typename Tile::Value> s,
                                                                   const MakeA make_a, const MakeB make_b,
                                                                   const int64_t apart_a, const int64_t apart_b,
                                                                   const Divisor steps_of_example) {
  using T = typename Tile::Value;
  const TilePlace place = tile_place(static_cast<int>(blockIdx.x), s.tiles_m, s.tiles_n);
  const int first_m = place.m * Tile::m, first_n = place.n * Tile::n;
  const int first = static_cast<int>(blockIdx.z) * s.steps;
  const int last = first + s.steps < s.all_steps ? first + s.steps : s.all_steps;
  using SourceA = decltype(make_a.source());
  using SourceB = decltype(make_b.source());
  const ByExample<SourceA, T> a(make_a.source(), apart_a, steps_of_example);
  const ByExample<SourceB, T> b(make_b.source(), apart_b, steps_of_example);
  const Tile tile;
  T sum[Tile::sums] = {}, squares[Tile::sums] = {};
  int left = s.steps_of_example;  // steps of this example
  multiply_steps<Tile, false>(tile, a, first_m, b, first_n, first, last, sum, [&](int) {
    if (--left > 0) return;
    left = s.steps_of_example;
#pragma unroll
    for (int e = 0; e < Tile::sums; ++e) {
      squares[e] += sum[e] * sum[e];
      sum[e] = T(0);
    }
  });
  store_sums(tile, s, first_m, first_n, squares);
}

// The patches of a group as columns.
template <class T>
struct PatchesOfGroup {
  TapConv conv;
  const T* x;
  int positions;
  bool aligned;

  __device__ __forceinline__ PatchColumns<T> source() const {
    return {conv, x + static_cast<int64_t>(blockIdx.y) * conv.in, positions, aligned};
  }
};

// The columns [group outers, ...) of a matrix [depth, row].
template <class T>
struct ColumnsOfGroup {
  const T* data;
  int64_t row;
  int outers, depth;
  bool aligned;

  __device__ __forceinline__ MatrixSource<T, false> source() const {
    return {data + static_cast<int64_t>(blockIdx.y) * outers, row, outers, depth, aligned};
  }
};

// What is summed over.
struct SumOver {
  int64_t examples, positions;
};

// Gives the sums [parts][groups][m][n] in working memory, or straight in `to` where there is one part and `to` is not
// null; returns the parts. With Squares every example's sum is squared before it is added, else examples are nothing.
template <bool Squares, class T, class MakeA, class MakeB>
int64_t weight_sums(Device& device, const SumOver& over, int64_t groups, int64_t m, int64_t n, const MakeA& a,
                    const MakeB& b, int64_t apart_a, int64_t apart_b, T* to, T** sums) {
  int64_t parts = 0;
  with_tiles<T>(device, [&](auto tiles) {
    using Tiles = decltype(tiles);
    using Large = std::conditional_t<Squares, typename Tiles::LargeSquares, typename Tiles::Large>;
    using Small = std::conditional_t<Squares, typename Tiles::SmallSquares, typename Tiles::Small>;
    // Parts of squares are whole examples: to the choice of tiles they are single steps.
    const auto steps_of_unit = [&](int64_t k) { return Squares ? (over.positions + k - 1) / k : 1; };
    const auto units = [&](int64_t k) {
      return Squares ? over.examples : (over.examples * over.positions + k - 1) / k;
    };
    TileSize large = size_of_tile<Large>(1), small = size_of_tile<Small>(1.35);
    large.k *= std::max<int64_t>(1, steps_of_unit(Large::k)), small.k *= std::max<int64_t>(1, steps_of_unit(Small::k));
    const Tiling tiling = choose_tiling(large, small, device.properties().multiprocessors, groups, m, n,
                                        units(Large::k), units(Small::k), parts_that_fit(groups * m * n, sizeof(T)));
    parts = tiling.parts;
    *sums = parts == 1 && to != nullptr ? to : device.workspace<T>(Slot::conv_sums, parts * groups * m * n);
    const auto start = [&](auto tile) {
      using Tile = typename decltype(tile)::type;
      const int64_t of_unit = steps_of_unit(Tile::k);
      const WeightSums<T> arguments{*sums,
                                    to_count(m, "weights of an output"),
                                    to_count(n, "outputs"),
                                    static_cast<int>(tiling.tiles_m),
                                    static_cast<int>(tiling.tiles_n),
                                    to_count(tiling.steps * of_unit, "steps of a sum"),
                                    to_count(units(Tile::k) * of_unit, "steps of a sum"),
                                    static_cast<int>(of_unit),
                                    is_aligned<T>(*sums, {n})};
      const dim3 grid(static_cast<unsigned>(tiling.tiles_m * tiling.tiles_n), static_cast<unsigned>(groups),
                      static_cast<unsigned>(parts));
      if constexpr (Squares) {
        launch(device, "squares of examples", square_sums_kernel<Tile, MakeA, MakeB>, grid, dim3(Tile::threads), 0,
               arguments, a, b, apart_a, apart_b, Divisor(std::max<int64_t>(1, of_unit)));
      } else {
        launch(device, "weight gradient", weight_sums_kernel<Tile, MakeA, MakeB>, grid, dim3(Tile::threads), 0,
               arguments, a, b);
      }
    };
    if (tiling.large) start(std::type_identity<Large>{});
    else start(std::type_identity<Small>{});
  });
  return parts;
}

}  // namespace palimpsest::cuda
