// Portable convolution and input gradient: implicit GEMM over taps, patches packed a panel at a time.
#include "cpu/conv.h"

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/tap_conv.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// w[in in_distance + out out_distance + tap.weight] as panels [out / tile][tap, in][tile].
template <typename T>
void pack_weights(const TypedKernels<T>& kernels, const TapConv& conv, const T* w, int64_t in_distance,
                  int64_t out_distance, int64_t kernel, T* packed) {
  const int64_t width = kernels.tile_columns, depth = conv.depth();
  const int64_t panels = ceil_div(conv.out, width);
  // All taps of some channels, transposed: [in, tap][tile], in as large a piece as stays in the first-level cache.
  const bool by_outputs = in_distance == kernel;
  const int64_t piece = by_outputs ? std::max<int64_t>(1, 64 / kernel) : 1;
  T* memory = workspace<T>(Slot::conv_panels, thread_count() * (piece * kernel + 8) * width);
  parallel_for(panels, static_cast<double>(panels * depth * width), [&](int64_t begin, int64_t end, int thread) {
    T* turned = memory + thread * (piece * kernel + 8) * width;
    for (int64_t panel = begin; panel < end; ++panel) {
      T* to = packed + panel * depth * width;
      const int64_t count = std::min(width, conv.out - panel * width);
      if (count < width) std::fill_n(to, depth * width, T(0));
      for (int64_t i = 0; i < conv.in; i += piece) {
        const int64_t channels = std::min(piece, conv.in - i);
        kernels.transpose(count, channels * kernel, w + i * in_distance + panel * width * out_distance, out_distance,
                          turned, width);
        for (size_t t = 0; t < conv.taps.size(); ++t) {
          for (int64_t c = 0; c < channels; ++c) {
            std::copy_n(turned + (c * kernel + conv.taps[t].weight) * width, count,
                        to + (static_cast<int64_t>(t) * conv.in + i + c) * width);
          }
        }
      }
    }
  });
}

// Elements [begin, end) of a run's (tap, channel) at column w of x, zeros outside of the row.
template <typename T>
void copy_run(const TapConv& conv, const T* row, int64_t w, int64_t begin, int64_t end, T* to) {
  const int64_t first = std::clamp(-w * conv.in, begin, end), last = std::clamp((conv.w - w) * conv.in, first, end);
  std::fill(to, to + (first - begin), T(0));
  // Where a run has several taps their channels lie side by side; one tap starts at its own position.
  if (last > first) std::memcpy(to + (first - begin), row + w * conv.x_channels + first, (last - first) * sizeof(T));
  std::fill(to + (last - begin), to + (end - begin), T(0));
}

// Rows m.. of patches(x), steps [k_begin, k_begin + k) of (tap, channel), packed by rows.
template <typename T>
void pack_patches(const TapConv& conv, const T* x, int64_t k_begin, int64_t k, int64_t m, int64_t rows, T* panel) {
  GridPosition at(conv, m);
  for (int64_t r = 0; r < rows; ++r, panel += packed_row<T>, at.advance(conv, 1)) {
    int64_t start = 0;  // of the run, in steps
    for (const TapRun& run : conv.runs) {
      const int64_t length = run.taps * conv.in;
      const int64_t begin = std::max<int64_t>(0, k_begin - start), end = std::min(length, k_begin + k - start);
      if (begin < end) {
        const int64_t h = at.i * conv.step_h + run.dh;
        T* to = panel + start + begin - k_begin;
        if (h < 0 || h >= conv.h) {
          std::fill_n(to, end - begin, T(0));
        } else {
          copy_run(conv, x + (at.n * conv.h + h) * conv.w * conv.x_channels, at.j * conv.step_w + run.dw, begin, end,
                   to);
        }
      }
      start += length;
    }
  }
}

template <typename T>
void run_tap_conv(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, const T* packed, T* y) {
  const int64_t positions = conv.positions(), width = kernels.tile_columns;
  const int64_t depth = conv.depth();
  const auto row = [&](int64_t m) {
    const int64_t j = m % conv.grid_w, i = m / conv.grid_w % conv.grid_h;
    return y + m / conv.grid_w / conv.grid_h * conv.y_image + i * conv.y_row + j * conv.y_column;
  };
  const int64_t units = ceil_div(positions, kernels.tile_rows);
  T* memory = workspace<T>(Slot::conv_panels, thread_count() * panel_elements<T>);
  const int64_t rows_a_block = 16 * kernels.tile_rows;  // their part of y stays in the second-level cache
  parallel_for(units, 2.0 * positions * depth * conv.out / 16, [&](int64_t unit_begin, int64_t unit_end, int thread) {
    T* panel = memory + thread * panel_elements<T>;
    const int64_t end = std::min(positions, unit_end * kernels.tile_rows);
    if (depth == 0) {
      for (int64_t m = unit_begin * kernels.tile_rows; m < end; ++m) std::fill_n(row(m), conv.out, T(0));
      return;
    }
    for (int64_t column = 0; column < conv.out; column += block_columns(kernels)) {
      const int64_t columns = std::min(block_columns(kernels), conv.out - column);
      for (int64_t m = unit_begin * kernels.tile_rows; m < end; m += rows_a_block) {
        for (int64_t k_begin = 0; k_begin < depth; k_begin += gemm_depth) {
          const int64_t k = std::min(gemm_depth, depth - k_begin);
          multiply_rows(
              kernels, true, m, std::min(m + rows_a_block, end), k, packed + column * depth + k_begin * width,
              depth * width, columns, T(1), k_begin == 0 ? T(0) : T(1), panel,
              [&](int64_t from, int64_t rows, T* to) { pack_patches(conv, x, k_begin, k, from, rows, to); },
              [&](int64_t at) { return row(at) + column; });
        }
      }
    }
  });
}

template <typename T>
void run_group(const TapConv& conv, int64_t kernel, const T* x, const T* w, int64_t in_distance, int64_t out_distance,
               T* y) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t columns = ceil_div(conv.out, kernels.tile_columns) * kernels.tile_columns;
  T* packed = workspace<T>(Slot::conv_weights, columns * conv.depth());
  pack_weights(kernels, conv, w, in_distance, out_distance, kernel, packed);
  run_tap_conv(kernels, conv, x, packed, y);
}

}  // namespace

template <typename T>
void conv(const ConvShape& s, const T* x, const T* w, T* y) {
  if (is_depthwise(s)) return depthwise(s, x, w, y);
  const TapConv taps = forward_taps(s);
  const int64_t kernel = s.kh * s.kw;
  for (int64_t g = 0; g < s.groups; ++g) {
    run_group(taps, kernel, x + g * taps.in, w + g * taps.out * taps.in * kernel, kernel, taps.in * kernel,
              y + g * taps.out);
  }
}

template <typename T>
void conv_input_gradient(const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  if (is_depthwise(s)) return depthwise_input_gradient(s, w, y_bar, x_bar);
  const int64_t kernel = s.kh * s.kw;
  for (const Phase& phase : input_gradient_phases(s)) {
    const TapConv& taps = phase.conv;
    for (int64_t g = 0; g < s.groups; ++g) {
      run_group(taps, kernel, y_bar + g * taps.in, w + g * taps.out * taps.in * kernel, taps.out * kernel, kernel,
                x_bar + phase.y_offset + g * taps.out);
    }
  }
}

template void conv<float>(const ConvShape&, const float*, const float*, float*);
template void conv<double>(const ConvShape&, const double*, const double*, double*);
template void conv_input_gradient<float>(const ConvShape&, const float*, const float*, float*);
template void conv_input_gradient<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace palimpsest::cpu
