// Stand-in for cuda/matrix_units.h: the lanes of a warp lay out their fragments, and each computes the sums it holds.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace palimpsest::cuda {

// A warp's fragments: Count values a lane.
template <class T, int Count>
struct Fragments {
  T values[32][Count];

  // All lanes' values; they stay until the warp's next barrier.
  static Fragments& exchange(const T (&own)[Count]) {
    static thread_local Fragments of_warps[32];
    Fragments& all = of_warps[threadIdx.x / 32];
    __syncwarp();
    for (int i = 0; i < Count; ++i) all.values[threadIdx.x % 32][i] = own[i];
    __syncwarp();
    return all;
  }
};

template <int M, int N>
void multiply_f64(const double (&a)[M], const double (&b)[N], double (&c)[M * N * 2]) {
  double own[M + N];
  for (int i = 0; i < M; ++i) own[i] = a[i];
  for (int j = 0; j < N; ++j) own[M + j] = b[j];
  const auto& all = Fragments<double, M + N>::exchange(own);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      for (int e = 0; e < 2; ++e) {
        const int row = lane / 4, column = lane % 4 * 2 + e;
        double& sum = c[(i * N + j) * 2 + e];
        for (int k = 0; k < 4; ++k) sum += all.values[row * 4 + k][i] * all.values[column * 4 + k][M + j];
      }
    }
  }
}

template <int M, int N>
void multiply_tf32(const float (&a)[M * 4], const float (&b)[N * 2], float (&c)[M * N * 4]) {
  float own[M * 4 + N * 2];
  for (int i = 0; i < M * 4; ++i) own[i] = a[i];
  for (int j = 0; j < N * 2; ++j) own[M * 4 + j] = b[j];
  const auto& all = Fragments<float, M * 4 + N * 2>::exchange(own);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4, half = e / 2, column = lane % 4 * 2 + e % 2;
        float& sum = c[(i * N + j) * 4 + e];
        for (int k = 0; k < 8; ++k) {
          sum += all.values[row * 4 + k % 4][i * 4 + k / 4 * 2 + half] *
                 all.values[column * 4 + k % 4][M * 4 + j * 2 + k / 4];
        }
      }
    }
  }
}

inline float to_tf32(float value) {
  const unsigned bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? value : __uint_as_float((bits + 0x1000u) & ~0x1fffu);
}

}  // namespace palimpsest::cuda
