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
                  int64_t out_distance, T* packed) {
  const int64_t width = kernels.tile_columns, depth = static_cast<int64_t>(conv.taps.size()) * conv.in;
  const int64_t panels = ceil_div(conv.out, width);
  parallel_for(panels, static_cast<double>(panels) * depth * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) {
      T* to = packed + panel * depth * width;
      const int64_t count = std::min(width, conv.out - panel * width);
      for (const Tap& tap : conv.taps) {
        for (int64_t i = 0; i < conv.in; ++i, to += width) {
          const T* from = w + i * in_distance + panel * width * out_distance + tap.weight;
          for (int64_t j = 0; j < count; ++j) to[j] = from[j * out_distance];
          for (int64_t j = count; j < width; ++j) to[j] = 0;
        }
      }
    }
  });
}

// Rows m.. of patches(x), steps [k_begin, k_begin + k) of (tap, channel), packed by rows.
template <typename T>
void pack_patches(const TapConv& conv, const T* x, int64_t k_begin, int64_t k, int64_t m, int64_t rows, T* panel) {
  for (int64_t r = 0; r < rows; ++r, panel += packed_row<T>) {
    const int64_t j = (m + r) % conv.grid_w, i = (m + r) / conv.grid_w % conv.grid_h;
    const T* image = x + (m + r) / conv.grid_w / conv.grid_h * conv.h * conv.w * conv.x_channels;
    int64_t tap = k_begin / conv.in, channel = k_begin % conv.in;
    for (int64_t done = 0; done < k; ++tap, channel = 0) {
      const int64_t count = std::min(conv.in - channel, k - done);
      const int64_t h = i * conv.step_h + conv.taps[tap].dh, w = j * conv.step_w + conv.taps[tap].dw;
      if (h < 0 || h >= conv.h || w < 0 || w >= conv.w) {
        std::memset(panel + done, 0, count * sizeof(T));
      } else {
        std::memcpy(panel + done, image + (h * conv.w + w) * conv.x_channels + channel, count * sizeof(T));
      }
      done += count;
    }
  }
}

template <typename T>
void run_tap_conv(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, const T* packed, T* y) {
  const int64_t positions = conv.positions(), width = kernels.tile_columns;
  const int64_t depth = static_cast<int64_t>(conv.taps.size()) * conv.in;
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
void run_group(const TapConv& conv, const T* x, const T* w, int64_t in_distance, int64_t out_distance, T* y) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t columns = ceil_div(conv.out, kernels.tile_columns) * kernels.tile_columns;
  T* packed = workspace<T>(Slot::conv_weights, columns * static_cast<int64_t>(conv.taps.size()) * conv.in);
  pack_weights(kernels, conv, w, in_distance, out_distance, packed);
  run_tap_conv(kernels, conv, x, packed, y);
}

}  // namespace

template <typename T>
void conv(const ConvShape& s, const T* x, const T* w, T* y) {
  if (is_depthwise(s)) return depthwise(s, x, w, y);
  const TapConv taps = forward_taps(s);
  const int64_t kernel = s.kh * s.kw;
  for (int64_t g = 0; g < s.groups; ++g) {
    run_group(taps, x + g * taps.in, w + g * taps.out * taps.in * kernel, kernel, taps.in * kernel, y + g * taps.out);
  }
}

template <typename T>
void conv_input_gradient(const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  if (is_depthwise(s)) return depthwise_input_gradient(s, w, y_bar, x_bar);
  const int64_t kernel = s.kh * s.kw;
  for (const Phase& phase : input_gradient_phases(s)) {
    const TapConv& taps = phase.conv;
    for (int64_t g = 0; g < s.groups; ++g) {
      run_group(taps, y_bar + g * taps.in, w + g * taps.out * taps.in * kernel, taps.out * kernel, kernel,
                x_bar + phase.y_offset + g * taps.out);
    }
  }
}

template void conv<float>(const ConvShape&, const float*, const float*, float*);
template void conv<double>(const ConvShape&, const double*, const double*, double*);
template void conv_input_gradient<float>(const ConvShape&, const float*, const float*, float*);
template void conv_input_gradient<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace palimpsest::cpu
