// Portable weight gradient and per-example squares: products of patches(x) and y_bar over positions.
#include "cpu/conv.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/tap_conv.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// Columns m.. of patches(x), (tap, channel), at positions [begin, begin + k), packed by columns.
template <typename T>
void pack_patch_columns(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, int64_t begin, int64_t k,
                        int64_t m, int64_t rows, T* panel) {
  int64_t tap = m / conv.in, channel = m % conv.in;
  for (int64_t r = 0; r < rows; ++tap, channel = 0) {
    const int64_t count = std::min(conv.in - channel, rows - r);
    const int64_t dh = conv.taps[tap].dh, dw = conv.taps[tap].dw;
    int64_t j = begin % conv.grid_w, i = begin / conv.grid_w % conv.grid_h;
    const T* image = x + begin / conv.grid_w / conv.grid_h * conv.h * conv.w * conv.x_channels + channel;
    T* to = panel + r;
    for (int64_t p = 0; p < k; ++p, to += kernels.tile_rows) {
      const int64_t h = i * conv.step_h + dh, w = j * conv.step_w + dw;
      const bool inside = h >= 0 && h < conv.h && w >= 0 && w < conv.w;
      const T* from = image + (h * conv.w + w) * conv.x_channels;
      for (int64_t l = 0; l < count; ++l) to[l] = inside ? from[l] : T(0);
      if (++j == conv.grid_w) {
        j = 0;
        if (++i == conv.grid_h) {
          i = 0;
          image += conv.h * conv.w * conv.x_channels;
        }
      }
    }
    r += count;
  }
}

template <typename T>
void pack_gradient(const TypedKernels<T>& kernels, const T* y_bar, int64_t distance, int64_t begin, int64_t k,
                   int64_t columns, T* packed) {
  const int64_t width = kernels.tile_columns;
  for (int64_t j = 0; j < columns; j += width, packed += k * width) {
    const T* from = y_bar + begin * distance + j;
    pack_panel(k, std::min(width, columns - j), width, packed, [=](int64_t p) { return from + p * distance; });
  }
}

// sums [(tap, in), out] of one group. With squares every example's sum is squared before it is added.
template <typename T>
void sum_products(const TapConv& conv, bool squares, const T* x, const T* y_bar, int64_t y_channels, T* sums) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t total = static_cast<int64_t>(conv.taps.size()) * conv.in, image = conv.grid_h * conv.grid_w;
  const int64_t positions = conv.positions(), width = kernels.tile_columns;
  const int64_t depth = squares ? image : gemm_depth;
  const int64_t block = squares ? 4 * width : block_columns(kernels);
  const int64_t share =
      whole_lines<T>(most_tile_rows * depth + depth * std::min(block, ceil_div(conv.out, width) * width));
  T* memory = workspace<T>(Slot::conv_panels, thread_count() * share);
  parallel_for(ceil_div(total, kernels.tile_rows), 2.0 * positions * total * conv.out / 16,
               [&](int64_t unit_begin, int64_t unit_end, int thread) {
                 T* panel = memory + thread * share;
                 T* gradient = panel + most_tile_rows * depth;
                 const int64_t first = unit_begin * kernels.tile_rows,
                               last = std::min(total, unit_end * kernels.tile_rows);
                 for (int64_t m = first; m < last; ++m) std::fill_n(sums + m * conv.out, conv.out, T(0));
                 for (int64_t column = 0; column < conv.out; column += block) {
                   const int64_t columns = std::min(block, conv.out - column);
                   for (int64_t begin = 0; begin < positions; begin += depth) {
                     const int64_t k = std::min(depth, positions - begin);
                     pack_gradient(kernels, y_bar + column, y_channels, begin, k, columns, gradient);
                     const auto pack = [&](int64_t m, int64_t rows, T* to) {
                       pack_patch_columns(kernels, conv, x, begin, k, m, rows, to);
                     };
                     if (!squares) {
                       multiply_rows(kernels, false, first, last, k, gradient, k * width, columns, T(1), T(1), panel,
                                     pack, [&](int64_t m) { return sums + m * conv.out + column; });
                       continue;
                     }
                     for (int64_t m = first; m < last; m += kernels.tile_rows) {
                       const int64_t rows = std::min(kernels.tile_rows, last - m);
                       pack(m, rows, panel);
                       for (int64_t j = 0; j < columns; j += width) {
                         T* out[most_tile_rows];
                         for (int64_t r = 0; r < rows; ++r) out[r] = sums + (m + r) * conv.out + column + j;
                         kernels.square_by_columns(rows, k, panel, gradient + j * k, nullptr,
                                                   {out, std::min(width, columns - j), T(1), T(1)});
                       }
                     }
                   }
                 }
               });
}

template <typename T>
void weight_sums(const ConvShape& s, bool squares, const T* x, const T* y_bar, T* w_bar) {
  const TapConv conv = forward_taps(s);
  const int64_t kernel = s.kh * s.kw;
  T* sums = workspace<T>(Slot::conv_sums, kernel * conv.in * conv.out);
  for (int64_t g = 0; g < s.groups; ++g) {
    sum_products(conv, squares, x + g * conv.in, y_bar + g * conv.out, s.o, sums);
    T* to = w_bar + g * conv.out * conv.in * kernel;
    parallel_for(conv.out, static_cast<double>(conv.out) * conv.in * kernel, [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; ++o) {
        for (int64_t i = 0; i < conv.in; ++i) {
          for (int64_t t = 0; t < kernel; ++t) {
            to[(o * conv.in + i) * kernel + t] = sums[(t * conv.in + i) * conv.out + o];
          }
        }
      }
    });
  }
}

}  // namespace

template <typename T>
void conv_weight_gradient(const ConvShape& shape, const T* x, const T* y_bar, T* w_bar) {
  if (is_depthwise(shape)) return depthwise_weight_gradient(shape, false, x, y_bar, w_bar);
  weight_sums(shape, false, x, y_bar, w_bar);
}

template <typename T>
void conv_grad_squares(const ConvShape& shape, const T* x, const T* y_bar, T* s) {
  if (is_depthwise(shape)) return depthwise_weight_gradient(shape, true, x, y_bar, s);
  weight_sums(shape, true, x, y_bar, s);
}

template <typename T>
void linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const T* x, const T* y_bar, T* s) {
  if (t != 1) {
    // Tokens are the positions of a 1 x 1 convolution, whose sums are [I, O] as they stand.
    const TapConv conv{n, t, 1, i, t, 1, 1, 1, t * o, o, o, i, o, {{0, 0, 0}}};
    return sum_products(conv, true, x, y_bar, o, s);
  }
  // One row an example: (x g)^2 = x^2 g^2, one product of squared factors.
  T* x_squared = workspace<T>(Slot::gemm_squares, n * (i + o));
  T* y_squared = x_squared + n * i;
  parallel_for(n, static_cast<double>(n) * (i + o), [&](int64_t begin, int64_t end, int) {
    for (int64_t e = begin * i; e < end * i; ++e) x_squared[e] = x[e] * x[e];
    for (int64_t e = begin * o; e < end * o; ++e) y_squared[e] = y_bar[e] * y_bar[e];
  });
  GemmShape shape;
  shape.m = i, shape.n = o, shape.k = n;
  shape.trans_a = true;
  shape.lda = i, shape.ldb = o, shape.ldc = o;
  gemm(shape, x_squared, y_squared, s);
}

template void conv_weight_gradient<float>(const ConvShape&, const float*, const float*, float*);
template void conv_weight_gradient<double>(const ConvShape&, const double*, const double*, double*);
template void conv_grad_squares<float>(const ConvShape&, const float*, const float*, float*);
template void conv_grad_squares<double>(const ConvShape&, const double*, const double*, double*);
template void linear_grad_squares<float>(int64_t, int64_t, int64_t, int64_t, const float*, const float*, float*);
template void linear_grad_squares<double>(int64_t, int64_t, int64_t, int64_t, const double*, const double*, double*);

}  // namespace palimpsest::cpu
