// Stand-in for CUDA's device language: keywords, built-in variables, vectors, intrinsics and warp operations, run by
// block.cpp a block after another, its threads as fibers. Compiles cuda/*.cu as C++.
#pragma once

#include <math.h>

#include <bit>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "block.h"
#include "cuda_runtime_api.h"
#include "streams.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __constant__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

constexpr int warpSize = 32;

// --- Vectors of the device language.
// ----------------------------------------------------------------------------------
#define PALIMPSEST_VECTOR2(name, type, alignment) \
  struct alignas(alignment) name##2 {             \
    type x, y;                                    \
  };                                              \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define PALIMPSEST_VECTOR4(name, type, alignment) \
  struct alignas(alignment) name##4 {             \
    type x, y, z, w;                              \
  };                                              \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
PALIMPSEST_VECTOR2(float, float, 8)
PALIMPSEST_VECTOR4(float, float, 16)
PALIMPSEST_VECTOR2(double, double, 16)
PALIMPSEST_VECTOR4(double, double, 16)
PALIMPSEST_VECTOR2(int, int, 8)
PALIMPSEST_VECTOR4(int, int, 16)
PALIMPSEST_VECTOR2(uint, unsigned, 8)
PALIMPSEST_VECTOR4(uint, unsigned, 16)
PALIMPSEST_VECTOR4(uchar, unsigned char, 4)
#undef PALIMPSEST_VECTOR2
#undef PALIMPSEST_VECTOR4

// --- Intrinsics.
// ------------------------------------------------------------------------------------------------------
inline float __fmaf_rn(float a, float b, float c) { return ::fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}

inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T>
T atomicAdd(T* address, T value) {
  static_assert(std::is_integral_v<T>, "sums of floating point in any order give other bits every time");
  return std::exchange(*address, static_cast<T>(*address + value));
}
inline int atomicOr(int* address, int value) { return std::exchange(*address, *address | value); }
inline int atomicExch(int* address, int value) { return std::exchange(*address, value); }
inline int atomicMax(int* address, int value) { return std::exchange(*address, *address < value ? value : *address); }

// --- Barriers and warps. The place tells barriers apart: threads that wait at two of them have diverged.
// --------------
using PalimpsestPlace = std::source_location;

inline void __syncthreads(PalimpsestPlace at = PalimpsestPlace::current()) { cuda_host::block_barrier(at); }
inline void __syncwarp(unsigned mask = 0xffffffffu, PalimpsestPlace at = PalimpsestPlace::current()) {
  cuda_host::warp_exchange(mask, 0, at);
}

// The value of `source` lane, or this lane's own where the source lies outside of the width.
template <class T>
T palimpsest_shuffle(unsigned mask, T value, int source, bool inside, PalimpsestPlace at) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const uint64_t* all = cuda_host::warp_exchange(mask, bits, at);
  T result = value;
  if (inside) std::memcpy(&result, &all[source], sizeof result);
  return result;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, PalimpsestPlace at = PalimpsestPlace::current()) {
  const int own = cuda_host::lane();
  return palimpsest_shuffle(mask, value, (own & ~(width - 1)) | (lane & (width - 1)), true, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, PalimpsestPlace at = PalimpsestPlace::current()) {
  const int own = cuda_host::lane(), source = own ^ lanes;
  return palimpsest_shuffle(mask, value, source, (source & ~(width - 1)) <= (own & ~(width - 1)), at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   PalimpsestPlace at = PalimpsestPlace::current()) {
  const int own = cuda_host::lane(), source = own + static_cast<int>(by);
  return palimpsest_shuffle(mask, value, source, (own & (width - 1)) + static_cast<int>(by) < width, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, PalimpsestPlace at = PalimpsestPlace::current()) {
  const int own = cuda_host::lane(), source = own - static_cast<int>(by);
  return palimpsest_shuffle(mask, value, source, (own & (width - 1)) >= static_cast<int>(by), at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, PalimpsestPlace at = PalimpsestPlace::current()) {
  const uint64_t* all = cuda_host::warp_exchange(mask, predicate != 0, at);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= (mask >> i & 1) != 0 && all[i] == 1 ? 1u << i : 0u;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate, PalimpsestPlace at = PalimpsestPlace::current()) {
  return __ballot_sync(mask, predicate, at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PalimpsestPlace at = PalimpsestPlace::current()) {
  return __ballot_sync(mask, predicate, at) == mask;
}

// --- Launch.
// ----------------------------------------------------------------------------------------------------------
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "kernel parameters are 4 KiB at most on every architecture");
  const cudaLaunchConfig_t taken = *config;
  if (const cudaError_t status = cuda_host::check_grid(taken, reinterpret_cast<const void*>(kernel))) return status;
  cuda_host::note_launch();
  return cuda_host::enqueue(taken.stream, [taken, kernel, values] {
    return cuda_host::run_grid(taken, [&] { std::apply(kernel, values); });
  });
}
