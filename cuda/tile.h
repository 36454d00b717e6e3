// A block's tile of a matrix product: how its threads share the sums, and one step of them from shared memory.
//
// A tile multiplies panels a [k][row_m] and b [k][row_n] and holds `sums` sums a thread. Consecutive `run` sums lie in
// consecutive columns. Rows of panels are padded so that the reads of a warp meet different banks.
#pragma once

#include "cuda/matrix_units.h"

namespace palimpsest::cuda {

// N values that move in one access.
template <class T, int N = 16 / sizeof(T)>
struct alignas(N * sizeof(T)) Pack {
  static constexpr int count = N;
  T values[N];
};

// float32 on the ordinary units: lanes 4 x 8, each with GroupsM x GroupsN blocks of 4 x 4 sums.
template <int WarpsM, int WarpsN, int GroupsM, int GroupsN, int Depth, int Blocks>
struct FloatTile {
  using Value = float;
  static constexpr int m = WarpsM * GroupsM * 16, n = WarpsN * GroupsN * 32, k = Depth;
  static constexpr int row_m = m + 4, row_n = n + 4;
  static constexpr int threads = 32 * WarpsM * WarpsN, blocks = Blocks;  // blocks that a multiprocessor should hold
  static constexpr int run = 4, sums = GroupsM * GroupsN * 16;

  int first_m, first_n;

  __device__ FloatTile() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    first_m = warp / WarpsN * GroupsM * 16 + lane / 8 * 4;
    first_n = warp % WarpsN * GroupsN * 32 + lane % 8 * 4;
  }

  static __device__ __forceinline__ float prepare(float value) { return value; }

  __device__ __forceinline__ void multiply(const float* a, const float* b, float (&sum)[sums]) const {
#pragma unroll
    for (int step = 0; step < k; ++step) {
      Pack<float> x[GroupsM], y[GroupsN];
#pragma unroll
      for (int i = 0; i < GroupsM; ++i) {
        x[i] = *reinterpret_cast<const Pack<float>*>(a + step * row_m + first_m + i * 16);
      }
#pragma unroll
      for (int j = 0; j < GroupsN; ++j) {
        y[j] = *reinterpret_cast<const Pack<float>*>(b + step * row_n + first_n + j * 32);
      }
#pragma unroll
      for (int i = 0; i < GroupsM * 4; ++i) {
#pragma unroll
        for (int j = 0; j < GroupsN * 4; ++j) {
          float& to = sum[i * GroupsN * 4 + j];
          to = fmaf(x[i / 4].values[i % 4], y[j / 4].values[j % 4], to);
        }
      }
    }
  }

  // visit(row, column, first) of every run of sums.
  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll
    for (int i = 0; i < GroupsM * 4; ++i) {
#pragma unroll
      for (int j = 0; j < GroupsN; ++j) {
        visit(first_m + i / 4 * 16 + i % 4, first_n + j * 32, (i * GroupsN + j) * 4);
      }
    }
  }
};

// float64 on the matrix units: a warp has 32 x 32 sums as 4 x 4 fragments.
template <int WarpsM, int WarpsN, int Blocks>
struct DoubleTile {
  using Value = double;
  static constexpr int m = WarpsM * 32, n = WarpsN * 32, k = 8;
  static constexpr int row_m = m + 4, row_n = n + 4;
  static constexpr int threads = 32 * WarpsM * WarpsN, blocks = Blocks;
  static constexpr int run = 2, sums = 32;

  int first_m, first_n, group, step_of_lane;

  __device__ DoubleTile() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    first_m = warp / WarpsN * 32;
    first_n = warp % WarpsN * 32;
    group = lane / 4;
    step_of_lane = lane % 4;
  }

  static __device__ __forceinline__ double prepare(double value) { return value; }

  __device__ __forceinline__ void multiply(const double* a, const double* b, double (&sum)[sums]) const {
#pragma unroll
    for (int step = 0; step < k; step += 4) {
      const int at = step + step_of_lane;
      double x[4], y[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = a[at * row_m + first_m + i * 8 + group];
#pragma unroll
      for (int j = 0; j < 4; ++j) y[j] = b[at * row_n + first_n + j * 8 + group];
      multiply_f64<4, 4>(x, y, sum);
    }
  }

  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        visit(first_m + i * 8 + group, first_n + j * 8 + step_of_lane * 2, (i * 4 + j) * 2);
      }
    }
  }
};

// float32 with factors rounded to TF32 on the matrix units: a warp has 32 x 64 or 32 x 32 sums.
template <int WarpsM, int WarpsN, int Columns, int Blocks>
struct Tf32Tile {
  using Value = float;
  static constexpr int m = WarpsM * 32, n = WarpsN * Columns * 8, k = 16;
  static constexpr int row_m = m + 8, row_n = n + 8;
  static constexpr int threads = 32 * WarpsM * WarpsN, blocks = Blocks;
  static constexpr int run = 2, sums = 8 * Columns;

  int first_m, first_n, group, step_of_lane;

  __device__ Tf32Tile() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    first_m = warp / WarpsN * 32;
    first_n = warp % WarpsN * Columns * 8;
    group = lane / 4;
    step_of_lane = lane % 4;
  }

  static __device__ __forceinline__ float prepare(float value) { return to_tf32(value); }

  __device__ __forceinline__ void multiply(const float* a, const float* b, float (&sum)[sums]) const {
#pragma unroll
    for (int step = 0; step < k; step += 8) {
      const int at = step + step_of_lane;
      float x[8], y[Columns * 2];
#pragma unroll
      for (int i = 0; i < 8; ++i) {  // [2 fragments][2 steps of 4][2 halves of rows]
        x[i] = a[(at + i / 2 % 2 * 4) * row_m + first_m + i / 4 * 16 + i % 2 * 8 + group];
      }
#pragma unroll
      for (int j = 0; j < Columns * 2; ++j) y[j] = b[(at + j % 2 * 4) * row_n + first_n + j / 2 * 8 + group];
      multiply_tf32<2, Columns>(x, y, sum);
    }
  }

  template <class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < Columns; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          visit(first_m + i * 16 + half * 8 + group, first_n + j * 8 + step_of_lane * 2,
                (i * Columns + j) * 4 + half * 2);
        }
      }
    }
  }
};

}  // namespace palimpsest::cuda
