// Patches of channels-last activations as the factors of a product: read where they lie, no columns are written.
#pragma once

#include "cuda/panel.h"
#include "cuda/tap_conv.h"

namespace palimpsest::cuda {

__device__ __forceinline__ bool is_inside(const TapConv& conv, int h, int w) {
  return static_cast<unsigned>(h) < static_cast<unsigned>(conv.h) &&
         static_cast<unsigned>(w) < static_cast<unsigned>(conv.w);
}

// Rows of patches(x): positions by (tap, channel), along the sum over (tap, channel).
template <class T>
struct PatchRows {
  static constexpr bool along_k = true;
  static constexpr int count = Pack<T>::count;
  struct Place {
    int n, h, w;
  };

  const TapConv& conv;
  const T* data;
  bool aligned;

  __device__ __forceinline__ int begin(int step, int k) const { return step * k; }
  __device__ __forceinline__ Place place(int position) const {
    if (position >= conv.positions()) return {0, -(1 << 30), 0};
    const GridPlace at = grid_place(conv, position);
    return {at.n, at.i * conv.step_h + conv.first_h, at.j * conv.step_w + conv.first_w};
  }
  __device__ __forceinline__ void load(const Place& place, int k, T (&values)[count]) const {
    const int depth = conv.depth();
    const T* image = data + place.n * conv.x_image();
    if (aligned) {
      const TapPlace tap = tap_place(conv, k);
      const int h = place.h + tap.h, w = place.w + tap.w;
      Pack<T> pack{};
      if (k < depth && is_inside(conv, h, w)) {
        pack = *reinterpret_cast<const Pack<T>*>(image + (h * conv.w + w) * conv.x_channels + tap.channel);
      }
#pragma unroll
      for (int e = 0; e < count; ++e) values[e] = pack.values[e];
    } else {
#pragma unroll
      for (int e = 0; e < count; ++e) {
        const TapPlace tap = tap_place(conv, k + e);
        const int h = place.h + tap.h, w = place.w + tap.w;
        const bool exists = k + e < depth && is_inside(conv, h, w);
        values[e] = exists ? image[(h * conv.w + w) * conv.x_channels + tap.channel] : T(0);
      }
    }
  }
};

// Columns of patches(x): (tap, channel) by positions, for sums over positions.
template <class T>
struct PatchColumns {
  static constexpr bool along_k = false;
  static constexpr int count = Pack<T>::count;
  struct Place {
    int outer, h, w, channel;
  };

  const TapConv& conv;
  const T* data;
  int positions;
  bool aligned;

  __device__ __forceinline__ int begin(int step, int k) const { return step * k; }
  __device__ __forceinline__ Place place(int outer) const {
    const TapPlace tap = tap_place(conv, outer);
    return {outer, tap.h + conv.first_h, tap.w + conv.first_w, tap.channel};
  }
  __device__ __forceinline__ void load(const Place& place, int position, T (&values)[count]) const {
    const GridPlace at = grid_place(conv, position);
    const T* image = data + at.n * conv.x_image();
    const int h = at.i * conv.step_h, w = at.j * conv.step_w, depth = conv.depth();
    if (aligned) {
      Pack<T> pack{};
      if (position < positions && place.outer < depth && is_inside(conv, h + place.h, w + place.w)) {
        pack = *reinterpret_cast<const Pack<T>*>(image + ((h + place.h) * conv.w + w + place.w) * conv.x_channels +
                                                 place.channel);
      }
#pragma unroll
      for (int e = 0; e < count; ++e) values[e] = pack.values[e];
    } else {
#pragma unroll
      for (int e = 0; e < count; ++e) {
        const Place one = this->place(place.outer + e);
        const bool exists = position < positions && place.outer + e < depth && is_inside(conv, h + one.h, w + one.w);
        values[e] = exists ? image[((h + one.h) * conv.w + w + one.w) * conv.x_channels + one.channel] : T(0);
      }
    }
  }
};

// A source whose steps go through the examples one by one, each of whole steps: `data` is the turn's example.
template <class Source, class T>
struct ByExample : Source {
  const T* first;
  int64_t apart;  // elements between examples
  Divisor steps;  // of an example

  __device__ ByExample(const Source& source, int64_t distance, const Divisor& steps_of_example)
      : Source(source), first(source.data), apart(distance), steps(steps_of_example) {}

  __device__ __forceinline__ int begin(int step, int k) {
    const int example = steps.divide(step);
    this->data = first + example * apart;
    return (step - example * steps.value()) * k;
  }
};

}  // namespace palimpsest::cuda
