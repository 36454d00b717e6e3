// Portable weight gradient and per-example squares: products of patches(x) and y_bar over positions.
#include "cpu/conv.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/onednn.h"
#include "cpu/panels.h"
#include "cpu/square_sums.h"
#include "cpu/tap_conv.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// Columns of patches(x) packed by columns: `count` elements from `first` on of a run, at positions from `at` on.
template <typename T>
struct RunColumns {
  const TypedKernels<T>& kernels;
  const TapConv& conv;
  const TapRun& run;
  int64_t first, count;

  void zero(T* to, int64_t positions) const {
    for (int64_t p = 0; p < positions; ++p) std::fill_n(to + p * kernels.tile_rows, count, T(0));
  }

  // Columns [j, j_end) of one row of the grid; `row` is the row of x that the run reads.
  void pack_row(const T* row, int64_t j, int64_t j_end, T* to) const {
    const int64_t width = kernels.tile_rows, last_tap = (first + count - 1) / conv.in;
    // Where all the elements' taps lie inside x.
    const Columns from = inside_columns(conv.grid_w, conv.step_w, run.dw + first / conv.in, conv.w);
    const Columns until = inside_columns(conv.grid_w, conv.step_w, run.dw + last_tap, conv.w);
    const int64_t begin = std::clamp(std::max(from.first, until.first), j, j_end);
    const int64_t end = std::clamp(std::min(from.last, until.last), begin, j_end);
    for (int64_t column = j; column < begin; ++column, to += width) pack_edge(row, column, to);
    const T* source = row + (begin * conv.step_w + run.dw) * conv.x_channels + first;
    const int64_t distance = conv.step_w * conv.x_channels;
    if (count == width) {
      kernels.pack_tile_rows(end - begin, source, distance, to);
      to += (end - begin) * width;
    } else {
      for (int64_t column = begin; column < end; ++column, source += distance, to += width) {
        for (int64_t l = 0; l < count; ++l) to[l] = source[l];
      }
    }
    for (int64_t column = end; column < j_end; ++column, to += width) pack_edge(row, column, to);
  }

 private:
  // A position at which some taps read outside of the row.
  void pack_edge(const T* row, int64_t column, T* to) const {
    const int64_t w = column * conv.step_w + run.dw;
    for (int64_t l = 0; l < count; ++l) {
      const int64_t at = w + (first + l) / conv.in;
      to[l] = at >= 0 && at < conv.w ? row[w * conv.x_channels + first + l] : T(0);
    }
  }
};

// Columns m.. of patches(x), (tap, channel), at positions [begin, begin + k), packed by columns.
template <typename T>
void pack_patch_columns(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, int64_t begin, int64_t k,
                        int64_t m, int64_t rows, T* panel) {
  int64_t start = 0;
  for (const TapRun& run : conv.runs) {
    const int64_t length = run.taps * conv.in;
    const int64_t first = std::max<int64_t>(0, m - start), last = std::min(length, m + rows - start);
    if (first < last) {
      const RunColumns<T> columns{kernels, conv, run, first, last - first};
      T* to = panel + start + first - m;
      GridPosition at(conv, begin);
      for (int64_t done = 0; done < k;) {
        const int64_t count = std::min(conv.grid_w - at.j, k - done), h = at.i * conv.step_h + run.dh;
        T* here = to + done * kernels.tile_rows;
        if (h < 0 || h >= conv.h) {
          columns.zero(here, count);
        } else {
          columns.pack_row(x + (at.n * conv.h + h) * conv.w * conv.x_channels, at.j, at.j + count, here);
        }
        done += count;
        at.advance(conv, count);
      }
    }
    start += length;
  }
}

// What a thread works on: rows [first, last) of sums [(tap, in), out], for positions or examples [begin, end).
struct Share {
  int64_t first, last, begin, end;
};

template <typename T>
void sum_share(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, const T* y_bar, int64_t y_channels,
               const Share& share, T* memory, T* sums) {
  const int64_t block = block_columns(kernels);
  T* panel = memory;
  T* gradient = memory + most_tile_rows * gemm_depth;
  for (int64_t column = 0; column < conv.out; column += block) {
    const int64_t columns = std::min(block, conv.out - column);
    for (int64_t begin = share.begin; begin < share.end; begin += gemm_depth) {
      const int64_t k = std::min(gemm_depth, share.end - begin);
      pack_panels(kernels, k, y_bar + begin * y_channels + column, y_channels, columns, gradient,
                  k * kernels.tile_columns);
      multiply_rows(
          kernels, false, share.first, share.last, k, gradient, k * kernels.tile_columns, columns, T(1),
          begin == share.begin ? T(0) : T(1), panel,
          [&](int64_t m, int64_t rows, T* to) { pack_patch_columns(kernels, conv, x, begin, k, m, rows, to); },
          [&](int64_t m) { return sums + m * conv.out + column; });
    }
  }
}

// Examples whose panels are packed together: their part of y_bar stays in the second-level cache.
template <typename T>
int64_t examples_a_block(const TypedKernels<T>& kernels, const TapConv& conv) {
  constexpr int64_t cache_bytes = 1024 * 1024;
  const int64_t columns = ceil_div(conv.out, kernels.tile_columns) * kernels.tile_columns;
  const int64_t bytes = conv.grid_h * conv.grid_w * (columns + 2 * kernels.tile_rows) * static_cast<int64_t>(sizeof(T));
  return std::clamp<int64_t>(cache_bytes / std::max<int64_t>(bytes, 1), 1, std::max<int64_t>(conv.n, 1));
}

template <typename T>
void square_share(const TypedKernels<T>& kernels, const TapConv& conv, const T* x, const T* y_bar, int64_t y_channels,
                  const Share& share, T* memory, T* sums) {
  const int64_t image = conv.grid_h * conv.grid_w, width = kernels.tile_columns;
  const int64_t block = examples_a_block(kernels, conv), a_distance = image * kernels.tile_rows;
  T* panels = memory;
  T* gradient = memory + block * a_distance;
  std::fill(sums + share.first * conv.out, sums + share.last * conv.out, T(0));
  for (int64_t begin = share.begin; begin < share.end; begin += block) {
    const int64_t examples = std::min(block, share.end - begin), panel_distance = examples * image * width;
    for (int64_t e = 0; e < examples; ++e) {
      pack_panels(kernels, image, y_bar + (begin + e) * image * y_channels, y_channels, conv.out,
                  gradient + e * image * width, panel_distance);
    }
    for (int64_t m = share.first; m < share.last; m += kernels.tile_rows) {
      const int64_t rows = std::min(kernels.tile_rows, share.last - m);
      // The examples' positions follow each other, so that one call packs them all.
      pack_patch_columns(kernels, conv, x, begin * image, examples * image, m, rows, panels);
      T* out[most_tile_rows];
      for (int64_t r = 0; r < rows; ++r) out[r] = sums + (m + r) * conv.out;
      for (int64_t j = 0; j < conv.out; j += width) {
        kernels.square_by_columns(rows, examples, image, panels, a_distance, gradient + j / width * panel_distance,
                                  image * width, {out, std::min(width, conv.out - j), T(1), T(1)});
        for (int64_t r = 0; r < rows; ++r) out[r] += width;
      }
    }
  }
}

// Parts of the sum over positions that are added up apart, so that narrow gradients keep the team busy; their number
// depends on the shape only.
int64_t parts_of(int64_t panels, int64_t count, int64_t least) {
  constexpr int64_t units = 32;
  return std::clamp<int64_t>(std::min(ceil_div(units, std::max<int64_t>(panels, 1)), count / least), 1, 16);
}

// sums [(tap, in), out] of one group, and a copy of it for every further part. With squares every example's sum is
// squared before it is added.
template <typename T>
void sum_products(const TapConv& conv, bool squares, int64_t parts, const T* x, const T* y_bar, int64_t y_channels,
                  T* sums) {
  if (squares && squares_fit_in_place<T>(conv)) return sum_squares_in_place(conv, parts, x, y_bar, y_channels, sums);
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t total = conv.depth(), panels = ceil_div(total, kernels.tile_rows);
  const int64_t columns = ceil_div(conv.out, kernels.tile_columns) * kernels.tile_columns;
  const int64_t size = squares
                           ? examples_a_block(kernels, conv) * conv.grid_h * conv.grid_w * (kernels.tile_rows + columns)
                           : gemm_depth * (most_tile_rows + std::min(columns, block_columns(kernels)));
  const int64_t distance = whole_lines<T>(size), count = squares ? conv.n : conv.positions();
  T* memory = workspace<T>(Slot::conv_panels, thread_count() * distance);
  const double work = 2.0 * static_cast<double>(conv.positions() * total) * static_cast<double>(conv.out) / 16;
  parallel_for(parts * panels, work, [&](int64_t begin, int64_t end, int thread) {
    while (begin < end) {
      const int64_t part = begin / panels, first = begin % panels, last = std::min(panels, first + end - begin);
      const Share share{first * kernels.tile_rows, std::min(total, last * kernels.tile_rows), count * part / parts,
                        count * (part + 1) / parts};
      T* to = sums + part * total * conv.out;
      if (squares) {
        square_share(kernels, conv, x, y_bar, y_channels, share, memory + thread * distance, to);
      } else {
        sum_share(kernels, conv, x, y_bar, y_channels, share, memory + thread * distance, to);
      }
      begin += last - first;
    }
  });
}

// [parts][tap, in][out] -> [out, in, tap], the parts added in order, turned in blocks that stay in the first-level
// cache.
template <typename T>
void add_parts(const TapConv& conv, int64_t parts, const T* sums, T* to) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t taps = static_cast<int64_t>(conv.taps.size()), size = conv.depth() * conv.out;
  constexpr int64_t outs = 16, ins = 32;  // of a block
  const int64_t distance = whole_lines<T>(ins * outs * (taps + 1));
  T* memory = workspace<T>(Slot::conv_panels, thread_count() * distance);
  parallel_for(
      ceil_div(conv.out, outs), static_cast<double>(size * parts), [&](int64_t begin, int64_t end, int thread) {
        T* added = memory + thread * distance;  // [in][out]
        T* turned = added + ins * outs;         // [out][tap][in]
        for (int64_t o = begin * outs; o < std::min(conv.out, end * outs); o += outs) {
          const int64_t columns = std::min(outs, conv.out - o);
          for (int64_t i = 0; i < conv.in; i += ins) {
            const int64_t rows = std::min(ins, conv.in - i);
            for (int64_t t = 0; t < taps; ++t) {
              const T* from = sums + (t * conv.in + i) * conv.out + o;
              for (int64_t r = 0; r < rows; ++r) {
                for (int64_t c = 0; c < columns; ++c) {
                  T total = from[r * conv.out + c];
                  for (int64_t part = 1; part < parts; ++part) total += from[part * size + r * conv.out + c];
                  added[r * outs + c] = total;
                }
              }
              kernels.transpose(rows, columns, added, outs, turned + t * ins, taps * ins);
            }
            for (int64_t c = 0; c < columns; ++c) {
              kernels.transpose(taps, rows, turned + c * taps * ins, ins, to + ((o + c) * conv.in + i) * taps, taps);
            }
          }
        }
      });
}

template <typename T>
void weight_sums(const ConvShape& s, bool squares, const T* x, const T* y_bar, T* w_bar) {
  const TapConv conv = forward_taps(s);
  const int64_t size = conv.depth() * conv.out;
  if (conv.positions() == 0) return std::fill_n(w_bar, s.groups * size, T(0)), void();
  const int64_t panels = ceil_div(conv.depth(), typed_kernels<T>().tile_rows);
  const int64_t parts = squares ? parts_of(panels, conv.n, 2) : parts_of(panels, conv.positions(), 2048);
  T* sums = workspace<T>(Slot::conv_sums, parts * size);
  for (int64_t g = 0; g < s.groups; ++g) {
    sum_products(conv, squares, parts, x + g * conv.in, y_bar + g * conv.out, s.o, sums);
    add_parts(conv, parts, sums, w_bar + g * size);
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
    TapConv conv{.n = n,
                 .h = 1,
                 .w = t,
                 .x_channels = i,
                 .grid_h = 1,
                 .grid_w = t,
                 .step_h = 1,
                 .step_w = 1,
                 .y_image = t * o,
                 .y_row = o,
                 .y_column = o,
                 .in = i,
                 .out = o,
                 .taps = {{0, 0, 0}}};
    find_runs(conv);
    if (n == 0 || t == 0) return std::fill_n(s, i * o, T(0)), void();
    return sum_products(conv, true, 1, x, y_bar, o, s);
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
  if constexpr (std::is_same_v<T, float>) {
    // Not on tiles: squares of gradients are small, and what products of parts fall below 2^-126 is lost there.
    if (onednn_gemm(shape, x_squared, y_squared, s)) return;
  }
  gemm(shape, x_squared, y_squared, s);
}

template void conv_weight_gradient<float>(const ConvShape&, const float*, const float*, float*);
template void conv_weight_gradient<double>(const ConvShape&, const double*, const double*, double*);
template void conv_grad_squares<float>(const ConvShape&, const float*, const float*, float*);
template void conv_grad_squares<double>(const ConvShape&, const double*, const double*, double*);
template void linear_grad_squares<float>(int64_t, int64_t, int64_t, int64_t, const float*, const float*, float*);
template void linear_grad_squares<double>(int64_t, int64_t, int64_t, int64_t, const double*, const double*, double*);

}  // namespace palimpsest::cpu
