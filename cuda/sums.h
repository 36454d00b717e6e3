// Sums of a warp, a block and of columns in float64, in an order of the shape only.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/shared.h"
#include "cuda/strided.h"

namespace palimpsest::cuda {

constexpr unsigned whole_warp = 0xffffffffu;

// The same value in every lane: sums of pairs at distance 16, 8, 4, 2, 1.
__device__ __forceinline__ double warp_sum(double value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(whole_warp, value, distance);
  return value;
}

// Of a block of `threads`; only the first thread has the sum. Not twice in a kernel without a barrier between.
template <int threads>
__device__ __forceinline__ double block_sum(double value, int thread) {
  struct Sums {
    double of_warp[threads / 32];
  };
  Sums& s = block_shared<Sums>();
  value = warp_sum(value);
  if (thread % 32 == 0) s.of_warp[thread / 32] = value;
  __syncthreads();
  if (thread != 0) return 0;
  double total = s.of_warp[0];
  for (int i = 1; i < threads / 32; ++i) total += s.of_warp[i];
  return total;
}

constexpr int column_lanes = 32, column_lines = 8;

// Parts that a sum is cut into so that the whole device has work; of the shape only.
inline int64_t parts_of(int64_t units, int64_t terms, int64_t least_terms) {
  constexpr int64_t enough_units = 2048, most_parts = 1024;
  const int64_t wanted = std::min(enough_units / std::max<int64_t>(units, 1), terms / least_terms);
  return std::min(std::max<int64_t>(wanted, 1), most_parts);
}

// partial[part][o] = sum over the part's summed elements of term(x, o), o next to each other in x.
template <class T, class Term>
__global__ void column_sums_kernel(Strided<2> kept, Strided<1> summed, int64_t parts, Term term, const T* x,
                                   double* partial) {
  struct Sums {
    double at[column_lines][column_lanes];
  };
  Sums& s = block_shared<Sums>();
  const int lane = static_cast<int>(threadIdx.x), line = static_cast<int>(threadIdx.y);
  const int64_t columns = (kept.count + column_lanes - 1) / column_lanes;
  for (int64_t unit = blockIdx.x; unit < columns * parts; unit += gridDim.x) {
    const int64_t o = unit % columns * column_lanes + lane, part = unit / columns;
    const int64_t end = summed.count * (part + 1) / parts;
    double sum = 0;
    if (o < kept.count) {
      const T* from = x + kept.offsets(o).of[0];
#pragma unroll 4
      for (int64_t e = summed.count * part / parts + line; e < end; e += column_lines) {
        sum += term(static_cast<double>(from[summed.offsets(e).of[0]]), o);
      }
    }
    s.at[line][lane] = sum;
    __syncthreads();
    if (line == 0 && o < kept.count) {
      for (int i = 1; i < column_lines; ++i) sum += s.at[i][lane];
      partial[part * kept.count + o] = sum;
    }
    __syncthreads();
  }
}

template <class T, class Term>
void column_sums(Device& device, const Strided<2>& kept, const Strided<1>& summed, int64_t parts, const Term& term,
                 const T* x, double* partial) {
  const int64_t units = (kept.count + column_lanes - 1) / column_lanes * parts;
  launch(device, "summing columns", column_sums_kernel<T, Term>, dim3(grid_of(units, 1, 1 << 16)),
         dim3(column_lanes, column_lines), 0, kept, summed, parts, term, x, partial);
}

inline int64_t column_parts(int64_t columns, int64_t terms) {
  return parts_of((columns + column_lanes - 1) / column_lanes, terms, 64);
}

}  // namespace palimpsest::cuda
