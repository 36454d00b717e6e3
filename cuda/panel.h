// A tile's factors on their way from device memory over registers to shared memory, and the loop that multiplies them.
//
// A source gives the values of one factor: along k where neighbours in memory are neighbours in the sum, else along the
// rows (or columns) of the product. While a step is multiplied the next one's values are on their way to registers.
#pragma once

#include "cuda/shared.h"
#include "cuda/tile.h"

namespace palimpsest::cuda {

// What a source must have:
//   static constexpr bool along_k
//   struct Place; Place place(int outer): what it needs to know of a row of the product (`outer` may be beyond the end)
//   int begin(int step, int k): turns to a step of the loop, and says which k it starts at
//   void load(const Place&, int k, T (&values)[count]): values of consecutive k, or of consecutive rows; zeros beyond
//   the ends
template <class Tile, class Source, int Extent, int Row, bool Squared>
class Panel {
  using T = typename Tile::Value;
  static constexpr int count = Pack<T>::count;
  static constexpr int across = (Source::along_k ? Tile::k : Extent) / count;
  static constexpr int rows = Tile::threads / across;
  static constexpr int passes = (Source::along_k ? Extent : Tile::k) / rows;
  static_assert(passes >= 1 && passes * rows == (Source::along_k ? Extent : Tile::k));

 public:
  // The rows `first`... of the product.
  __device__ Panel(const Source& source, int first) : source_(source) {
    const int thread = static_cast<int>(threadIdx.x);
    down_ = thread / across;
    right_ = thread % across * count;
#pragma unroll
    for (int i = 0; i < places; ++i) places_[i] = source_.place(first + (Source::along_k ? down_ + i * rows : right_));
  }

  __device__ __forceinline__ void load(int step) {
    const int k = source_.begin(step, Tile::k);
#pragma unroll
    for (int i = 0; i < passes; ++i) {
      if constexpr (Source::along_k) source_.load(places_[i], k + right_, values_[i]);
      else source_.load(places_[0], k + down_ + i * rows, values_[i]);
    }
  }

  __device__ __forceinline__ void store(T* panel) const {
#pragma unroll
    for (int i = 0; i < passes; ++i) {
      Pack<T> pack;
#pragma unroll
      for (int e = 0; e < count; ++e) {
        const T value = values_[i][e];
        pack.values[e] = Tile::prepare(Squared ? value * value : value);
      }
      if constexpr (Source::along_k) {
#pragma unroll
        for (int e = 0; e < count; ++e) panel[(right_ + e) * Row + down_ + i * rows] = pack.values[e];
      } else {
        *reinterpret_cast<Pack<T>*>(panel + (down_ + i * rows) * Row + right_) = pack;
      }
    }
  }

 private:
  static constexpr int places = Source::along_k ? passes : 1;

  Source source_;
  int down_, right_;
  typename Source::Place places_[places];
  T values_[passes][count];
};

// sum += the products of steps [first, last), whose numbers are the same for the whole block; after(step) runs after
// each.
template <class Tile, bool Squared, class SourceA, class SourceB, class After>
__device__ __forceinline__ void multiply_steps(const Tile& tile, const SourceA& source_a, int first_m,
                                               const SourceB& source_b, int first_n, int first, int last,
                                               typename Tile::Value (&sum)[Tile::sums], After after) {
  using T = typename Tile::Value;
  struct Panels {
    alignas(16) T a[2][Tile::k * Tile::row_m];
    alignas(16) T b[2][Tile::k * Tile::row_n];
  };
  if (first >= last) return;
  Panels& panels = block_shared<Panels>();
  Panel<Tile, SourceA, Tile::m, Tile::row_m, Squared> a(source_a, first_m);
  Panel<Tile, SourceB, Tile::n, Tile::row_n, Squared> b(source_b, first_n);
  a.load(first);
  b.load(first);
  a.store(panels.a[0]);
  b.store(panels.b[0]);
  __syncthreads();
  int current = 0;
#pragma unroll 1
  for (int step = first; step < last; ++step) {
    const bool more = step + 1 < last;
    if (more) {
      a.load(step + 1);
      b.load(step + 1);
    }
    tile.multiply(panels.a[current], panels.b[current], sum);
    after(step);
    current ^= 1;
    // Nobody reads this half since the barrier of the step before.
    if (more) {
      a.store(panels.a[current]);
      b.store(panels.b[current]);
    }
    __syncthreads();
  }
}

// Values of a dense matrix of `depth` steps and `outers` rows of the product, whose rows in memory are `row` apart:
// rows of k where along_k, else rows of the product's rows.
template <class T, bool AlongK>
struct MatrixSource {
  static constexpr bool along_k = AlongK;
  static constexpr int count = Pack<T>::count;
  struct Place {
    int outer;
  };

  const T* data;
  int64_t row;
  int outers, depth;
  bool aligned;  // data and row are whole packs

  __device__ __forceinline__ int begin(int step, int k) const { return step * k; }
  __device__ __forceinline__ Place place(int outer) const { return {outer}; }
  __device__ __forceinline__ void load(const Place& place, int k, T (&values)[count]) const {
    const T* from = along_k ? data + place.outer * row + k : data + k * row + place.outer;
    // How many of the values exist.
    const int left = along_k ? (place.outer < outers ? depth - k : 0) : (k < depth ? outers - place.outer : 0);
    if (aligned && left >= count) {
      const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from);
#pragma unroll
      for (int e = 0; e < count; ++e) values[e] = pack.values[e];
    } else {
#pragma unroll
      for (int e = 0; e < count; ++e) values[e] = e < left ? from[e] : T(0);
    }
  }
};

// Stores the first `left` values of a run; whole runs in one access where `aligned`.
template <int Run, class T>
__device__ __forceinline__ void store_run(T* to, const T* values, int left, bool aligned) {
  if (aligned && left >= Run) {
    Pack<T, Run> pack;
#pragma unroll
    for (int e = 0; e < Run; ++e) pack.values[e] = values[e];
    *reinterpret_cast<Pack<T, Run>*>(to) = pack;
  } else {
#pragma unroll
    for (int e = 0; e < Run; ++e) {
      if (e < left) to[e] = values[e];
    }
  }
}

}  // namespace palimpsest::cuda
