// Depthwise convolution (groups = channels) and its adjoints: no products of matrices in it, channels are the vectors.
#include "cpu/conv.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/tap_conv.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// [C, taps] -> [taps, C]
template <typename T>
T* weights_by_tap(const ConvShape& s, const T* w) {
  const int64_t kernel = s.kh * s.kw;
  T* by_tap = workspace<T>(Slot::conv_weights, kernel * s.c);
  for (int64_t t = 0; t < kernel; ++t) {
    for (int64_t c = 0; c < s.c; ++c) by_tap[t * s.c + c] = w[c * kernel + t];
  }
  return by_tap;
}

template <typename T>
void run_taps(const TapConv& conv, int64_t channels, const T* x, const T* w, T* y) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t taps = static_cast<int64_t>(conv.taps.size());
  const T** memory = workspace<const T*>(Slot::depthwise, thread_count() * 2 * (taps + 8));
  parallel_for(conv.n * conv.grid_h, static_cast<double>(conv.positions()) * taps * channels / 4,
               [&](int64_t begin, int64_t end, int thread) {
                 const T** from = memory + thread * 2 * (taps + 8);
                 const T** weight = from + taps;
                 for (int64_t line = begin; line < end; ++line) {
                   const int64_t image = line / conv.grid_h, i = line % conv.grid_h;
                   for (int64_t j = 0; j < conv.grid_w; ++j) {
                     int64_t count = 0;
                     for (const Tap& tap : conv.taps) {
                       const int64_t h = i * conv.step_h + tap.dh, at = j * conv.step_w + tap.dw;
                       if (h < 0 || h >= conv.h || at < 0 || at >= conv.w) continue;
                       from[count] = x + ((image * conv.h + h) * conv.w + at) * channels;
                       weight[count++] = w + tap.weight * channels;
                     }
                     kernels.depthwise(count, from, weight, channels,
                                       y + image * conv.y_image + i * conv.y_row + j * conv.y_column);
                   }
                 }
               });
}

// sums [taps, C] of one example.
template <typename T>
void sum_example(const TypedKernels<T>& kernels, const TapConv& conv, int64_t channels, const T* x, const T* y_bar,
                 T* sums) {
  for (size_t t = 0; t < conv.taps.size(); ++t) {
    const Tap& tap = conv.taps[t];
    const Columns columns = inside_columns(conv.grid_w, conv.step_w, tap.dw, conv.w);
    for (int64_t i = 0; i < conv.grid_h; ++i) {
      const int64_t h = i * conv.step_h + tap.dh;
      if (h < 0 || h >= conv.h || columns.first == columns.last) continue;
      kernels.add_products(columns.last - columns.first,
                           x + (h * conv.w + columns.first * conv.step_w + tap.dw) * channels, conv.step_w * channels,
                           y_bar + i * conv.y_row + columns.first * conv.y_column, conv.y_column, channels,
                           sums + static_cast<int64_t>(t) * channels);
    }
  }
}

}  // namespace

template <typename T>
void depthwise(const ConvShape& s, const T* x, const T* w, T* y) {
  run_taps(forward_taps(s), s.c, x, weights_by_tap(s, w), y);
}

template <typename T>
void depthwise_input_gradient(const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  const T* by_tap = weights_by_tap(s, w);
  for (const Phase& phase : input_gradient_phases(s)) run_taps(phase.conv, s.c, y_bar, by_tap, x_bar + phase.y_offset);
}

template <typename T>
void depthwise_weight_gradient(const ConvShape& s, bool squares, const T* x, const T* y_bar, T* w_bar) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const TapConv conv = forward_taps(s);
  const int64_t kernel = s.kh * s.kw, size = kernel * s.c;
  // Examples go to a fixed number of partial sums, so that the result does not depend on the threads.
  const int64_t chunks = std::min<int64_t>(s.n, 16);
  T* partial = workspace<T>(Slot::conv_sums, (chunks + 1) * 2 * whole_lines<T>(size));
  const int64_t distance = 2 * whole_lines<T>(size);
  parallel_for(chunks, static_cast<double>(conv.positions()) * size / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      T* sums = partial + chunk * distance;
      T* example = sums + whole_lines<T>(size);
      std::fill_n(sums, size, T(0));
      for (int64_t n = s.n * chunk / chunks; n < s.n * (chunk + 1) / chunks; ++n) {
        T* into = squares ? example : sums;
        if (squares) std::fill_n(example, size, T(0));
        sum_example(kernels, conv, s.c, x + n * s.h * s.w * s.c, y_bar + n * conv.y_image, into);
        for (int64_t e = 0; squares && e < size; ++e) sums[e] += example[e] * example[e];
      }
    }
  });
  for (int64_t c = 0; c < s.c; ++c) {
    for (int64_t t = 0; t < kernel; ++t) {
      T total = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk * distance + t * s.c + c];
      w_bar[c * kernel + t] = total;
    }
  }
}

template void depthwise<float>(const ConvShape&, const float*, const float*, float*);
template void depthwise<double>(const ConvShape&, const double*, const double*, double*);
template void depthwise_input_gradient<float>(const ConvShape&, const float*, const float*, float*);
template void depthwise_input_gradient<double>(const ConvShape&, const double*, const double*, double*);
template void depthwise_weight_gradient<float>(const ConvShape&, bool, const float*, const float*, float*);
template void depthwise_weight_gradient<double>(const ConvShape&, bool, const double*, const double*, double*);

}  // namespace palimpsest::cpu
