// Products of small fragments on the matrix units, by PTX. The emulator of test/native has its own version of this
// file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace palimpsest::cuda {

// Lane l holds row or column g = l / 4 and step t = l % 4 of a fragment of 8 x 4 values; of a product of 8 x 8 it holds
// row g, columns 2t and 2t + 1.
//
// c[i, j] (8,8) += a[i] (8,4) b[j] (4,8) for i < M, j < N; c is [M][N][2].
template <int M, int N>
__device__ __forceinline__ void multiply_f64(const double (&a)[M], const double (&b)[N], double (&c)[M * N * 2]) {
  static_assert(M % 2 == 0);
#pragma unroll
  for (int i = 0; i < M; i += 2) {
#pragma unroll
    for (int j = 0; j < N; ++j) {
      double* low = c + (i * N + j) * 2;
      double* high = c + ((i + 1) * N + j) * 2;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
      asm volatile(
          "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+d"(low[0]), "+d"(low[1]), "+d"(high[0]), "+d"(high[1])
          : "d"(a[i]), "d"(a[i + 1]), "d"(b[j]));
#else
      asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                   : "+d"(low[0]), "+d"(low[1])
                   : "d"(a[i]), "d"(b[j]));
      asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                   : "+d"(high[0]), "+d"(high[1])
                   : "d"(a[i + 1]), "d"(b[j]));
#endif
    }
  }
}

// The same in float32 with factors of TF32: a[i] (16,8) is [2 steps of 4][2 halves of rows] values a lane, b[j] (8,8)
// [2 steps of 4], c[i, j] (16,8) [2 halves of rows][2 columns].
template <int M, int N>
__device__ __forceinline__ void multiply_tf32(const float (&a)[M * 4], const float (&b)[N * 2], float (&c)[M * N * 4]) {
#pragma unroll
  for (int i = 0; i < M; ++i) {
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float* to = c + (i * N + j) * 4;
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(to[0]), "+f"(to[1]), "+f"(to[2]), "+f"(to[3])
          : "r"(__float_as_uint(a[i * 4])), "r"(__float_as_uint(a[i * 4 + 1])), "r"(__float_as_uint(a[i * 4 + 2])),
            "r"(__float_as_uint(a[i * 4 + 3])), "r"(__float_as_uint(b[j * 2])), "r"(__float_as_uint(b[j * 2 + 1])));
    }
  }
}

// The nearest value of 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ float to_tf32(float value) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return __uint_as_float(rounded);
}

}  // namespace palimpsest::cuda
