// Convolution and input gradient on AMX tiles: sums over taps without patches. A left tile is one position of 16
// images, so that a tap is another tile and never a copy, and taps outside of the image cost nothing.
#include <algorithm>

#include "cpu/amx.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/tap_conv.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

constexpr int64_t images_a_block = 2 * amx_rows;
constexpr int64_t position_tile = 2 * amx_tile;  // 32 channels of one position of a block of images

// Windows of one position that skip others move more than they multiply.
bool skips_positions(const ConvShape& s) { return s.kh * s.kw == 1; }

bool worth(const TapConv& conv) {
  constexpr double most_waste = 1.6, least_work = 1e6;
  const double work = static_cast<double>(conv.n) * conv.in * conv.out;
  const double tiles = static_cast<double>(ceil_div(conv.n, amx_rows) * ceil_div(conv.in, amx_depth)) *
                       ceil_div(conv.out, amx_rows) * amx_rows * amx_depth * amx_rows;
  return tiles <= most_waste * work &&
         work * conv.grid_h * conv.grid_w * static_cast<double>(conv.taps.size()) >= least_work;
}

// How the work is cut so that what a thread reads again lies in its second-level cache: the rows of x that a group of
// grid rows reads, of some columns and some channels.
struct Cut {
  int64_t first_dh, first_dw, span_h, span_w;  // of the taps
  int64_t rows, columns;                       // of the grid at a time
  int64_t channel_tiles, chunk;                // all, and those packed at a time
  int64_t ring_rows, ring_columns;             // packed positions
  int64_t blocks, bands, groups;               // of images, columns, rows
  int64_t outs;                                // parts of the output channels

  explicit Cut(const TapConv& conv) {
    constexpr int64_t cache_bytes = 1200 * 1024;
    constexpr int64_t least_positions = 8;  // that share what is read of the weights
    int64_t last_dh = 0, last_dw = 0;
    first_dh = first_dw = 0;
    for (const Tap& tap : conv.taps) {
      const bool first = &tap == &conv.taps.front();
      first_dh = first ? tap.dh : std::min(first_dh, tap.dh), last_dh = first ? tap.dh : std::max(last_dh, tap.dh);
      first_dw = first ? tap.dw : std::min(first_dw, tap.dw), last_dw = first ? tap.dw : std::max(last_dw, tap.dw);
    }
    span_h = last_dh - first_dh + 1, span_w = last_dw - first_dw + 1;
    channel_tiles = ceil_div(conv.in, amx_depth);
    columns = conv.grid_w;
    rows = std::clamp<int64_t>(ceil_div(least_positions, columns), 1, conv.grid_h);
    chunk = channel_tiles;
    measure(conv);
    while (bytes() > cache_bytes && columns > 2 * least_positions) columns = ceil_div(columns, 2), measure(conv);
    while (bytes() > cache_bytes && chunk > 1) chunk = ceil_div(chunk, 2);
    blocks = ceil_div(conv.n, images_a_block);
    bands = ceil_div(conv.grid_w, columns);
    groups = ceil_div(conv.grid_h, rows);
    const int64_t threads = thread_count();
    outs = blocks * bands * groups >= threads ? 1 : std::min(threads, ceil_div(conv.out, 2 * amx_rows));
  }

  int64_t packed_elements() const { return ring_rows * ring_columns * chunk * position_tile; }

 private:
  void measure(const TapConv& conv) {
    ring_rows = std::min(conv.h, (rows - 1) * conv.step_h + span_h);
    ring_columns = std::min(conv.w, (columns - 1) * conv.step_w + span_w);
  }
  int64_t bytes() const { return packed_elements() * 2; }
};

// w[in in_distance + out out_distance + tap.weight] as right tiles [out tile][tap][in tile].
struct Weights {
  const float* w;
  int64_t in_distance, out_distance, kernel;
};

void pack_weights(const AmxKernels& tiles, const TapConv& conv, const Weights& weights, uint16_t* packed) {
  const TypedKernels<float>& kernels = typed_kernels<float>();
  const int64_t in_tiles = ceil_div(conv.in, amx_depth), out_tiles = ceil_div(conv.out, amx_rows);
  const int64_t taps = static_cast<int64_t>(conv.taps.size());
  const bool by_outputs = weights.in_distance == weights.kernel;
  const int64_t distance = weights.kernel * amx_part;
  float* memory = workspace<float>(Slot::amx_sums, thread_count() * distance);
  const double work = static_cast<double>(out_tiles * in_tiles) * amx_part * static_cast<double>(weights.kernel);
  parallel_for(out_tiles * in_tiles, work, [&](int64_t begin, int64_t end, int thread) {
    float* turned = memory + thread * distance;  // [weight][out][in], or [weight][in][out]
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t out = unit / in_tiles * amx_rows, in = unit % in_tiles * amx_depth;
      const int64_t columns = std::min(amx_rows, conv.out - out), depth = std::min(amx_depth, conv.in - in);
      const float* from = weights.w + out * weights.out_distance + in * weights.in_distance;
      if (by_outputs) {
        for (int64_t o = 0; o < columns; ++o) {
          kernels.transpose(depth, weights.kernel, from + o * weights.out_distance, weights.kernel,
                            turned + o * amx_depth, amx_part);
        }
      } else {
        for (int64_t i = 0; i < depth; ++i) {
          kernels.transpose(columns, weights.kernel, from + i * weights.in_distance, weights.kernel,
                            turned + i * amx_rows, amx_part);
        }
      }
      for (int64_t t = 0; t < taps; ++t) {
        const float* part = turned + conv.taps[t].weight * amx_part;
        uint16_t* to = packed + ((unit / in_tiles * taps + t) * in_tiles + unit % in_tiles) * amx_tile;
        if (by_outputs) {
          tiles.pack_right_by_columns(columns, depth, part, amx_depth, to);
        } else {
          tiles.pack_right(columns, depth, part, amx_rows, to);
        }
      }
    }
  });
}

// A thread's work on one block of images, one band of columns and one chunk of channels.
class Band {
 public:
  Band(const AmxKernels& kernels, const TapConv& conv, const Cut& cut, const float* x, const uint16_t* weights,
       float* y, uint16_t* ring, int32_t* at)
      : kernels_(kernels), conv_(conv), cut_(cut), x_(x), weights_(weights), y_(y), ring_(ring), at_(at) {}

  // Grid rows [begin, end) of the groups, for output channels [out, out_end).
  void run(int64_t block, int64_t band, int64_t chunk, int64_t begin, int64_t end, int64_t out, int64_t out_end) {
    image_ = block * images_a_block;
    images_ = std::min(images_a_block, conv_.n - image_);
    column_ = band * cut_.columns;
    column_end_ = std::min(conv_.grid_w, column_ + cut_.columns);
    chunk_ = chunk * cut_.chunk;
    chunk_tiles_ = std::min(cut_.chunk, cut_.channel_tiles - chunk_);
    first_w_ = std::clamp<int64_t>(column_ * conv_.step_w + cut_.first_dw, 0, conv_.w);
    last_w_ = std::clamp<int64_t>((column_end_ - 1) * conv_.step_w + cut_.first_dw + cut_.span_w, first_w_, conv_.w);
    packed_to_ = 0;
    for (int64_t i = begin; i < end; i += cut_.rows) {
      const int64_t i_end = std::min(end, i + cut_.rows);
      pack_rows(std::max<int64_t>(0, i * conv_.step_h + cut_.first_dh),
                std::min(conv_.h, (i_end - 1) * conv_.step_h + cut_.first_dh + cut_.span_h));
      for (int64_t o = out; o < out_end; o += 2 * amx_rows) {
        for (int64_t row = i; row < i_end; ++row) {
          for (int64_t j = column_; j < column_end_; ++j) multiply(row, j, o, std::min(out_end, o + 2 * amx_rows));
        }
      }
    }
  }

 private:
  // Row h of x lies in row h mod ring_rows of the ring; the rows before packed_to_ are there already.
  void pack_rows(int64_t begin, int64_t end) {
    for (int64_t h = std::max(begin, packed_to_); h < end; ++h) {
      const float* row = x_ + (image_ * conv_.h + h) * conv_.w * conv_.x_channels + chunk_ * amx_depth;
      for (int64_t w = first_w_; w < last_w_; ++w) {
        for (int64_t c = 0; c < chunk_tiles_; ++c) {
          uint16_t* to = ring_ + tile(h, w, c) * amx_tile;
          const int64_t depth = std::min(amx_depth, conv_.in - (chunk_ + c) * amx_depth);
          const float* from = row + w * conv_.x_channels + c * amx_depth;
          const int64_t image = conv_.h * conv_.w * conv_.x_channels;
          kernels_.pack_left(std::min(amx_rows, images_), depth, from, image, to);
          if (images_ > amx_rows) {
            kernels_.pack_left(images_ - amx_rows, depth, from + amx_rows * image, image, to + amx_tile);
          }
        }
      }
    }
    packed_to_ = std::max(packed_to_, end);
  }

  int64_t tile(int64_t h, int64_t w, int64_t c) const {
    return ((h % cut_.ring_rows * cut_.ring_columns + w - first_w_) * cut_.chunk + c) * 2;
  }

  void multiply(int64_t i, int64_t j, int64_t out, int64_t out_end) {
    const int64_t taps = static_cast<int64_t>(conv_.taps.size());
    int32_t* x_at = at_;
    int32_t* w_at = at_ + taps * cut_.chunk;
    int64_t steps = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t h = i * conv_.step_h + conv_.taps[t].dh, w = j * conv_.step_w + conv_.taps[t].dw;
      if (h < 0 || h >= conv_.h || w < 0 || w >= conv_.w) continue;
      const int64_t first = tile(h, w, 0), weight = t * cut_.channel_tiles + chunk_;
      for (int64_t c = 0; c < chunk_tiles_; ++c, ++steps) {
        x_at[steps] = static_cast<int32_t>(first + 2 * c);
        w_at[steps] = static_cast<int32_t>(weight + c);
      }
    }
    const int64_t panel = taps * cut_.channel_tiles;
    const AmxProduct product{.steps = steps,
                             .a = ring_,
                             .a_at = x_at,
                             .a_second = 1,
                             .b = weights_ + out / amx_rows * panel * amx_tile,
                             .b_at = w_at,
                             .b_second = panel,
                             .row_tiles = ceil_div(images_, amx_rows),
                             .column_tiles = ceil_div(out_end - out, amx_rows)};
    float* y = y_ + image_ * conv_.y_image + i * conv_.y_row + j * conv_.y_column + out;
    multiply_into(kernels_, product,
                  {y, conv_.y_image, amx_rows * conv_.y_image, images_, out_end - out, 1, chunk_ == 0 ? 0.0f : 1.0f});
  }

  const AmxKernels& kernels_;
  const TapConv& conv_;
  const Cut& cut_;
  const float* x_;
  const uint16_t* weights_;
  float* y_;
  uint16_t* ring_;
  int32_t* at_;
  int64_t image_ = 0, images_ = 0, column_ = 0, column_end_ = 0, chunk_ = 0, chunk_tiles_ = 0;
  int64_t first_w_ = 0, last_w_ = 0, packed_to_ = 0;
};

void run_tap_conv(const AmxKernels& kernels, const TapConv& conv, const Weights& weights, const float* x, float* y) {
  const Cut cut(conv);
  const int64_t taps = static_cast<int64_t>(conv.taps.size()), out_tiles = ceil_div(conv.out, amx_rows);
  uint16_t* packed = workspace<uint16_t>(Slot::amx_right, out_tiles * taps * cut.channel_tiles * amx_tile);
  pack_weights(kernels, conv, weights, packed);
  const int64_t offsets = whole_lines<int32_t>(2 * taps * cut.chunk);
  const int64_t share = cut.packed_elements() + 2 * offsets;
  uint16_t* memory = workspace<uint16_t>(Slot::amx_left, thread_count() * share);
  const int64_t units = cut.blocks * cut.bands * cut.groups;
  const double work = 2.0 * conv.positions() * conv.depth() * conv.out / 64;
  parallel_for(cut.outs * units, work, [&](int64_t begin, int64_t end, int thread) {
    uint16_t* ring = memory + thread * share;
    Band band(kernels, conv, cut, x, packed, y, ring, reinterpret_cast<int32_t*>(ring + cut.packed_elements()));
    kernels.begin();
    while (begin < end) {
      const int64_t part = begin / units, strip = begin % units / cut.groups, group = begin % cut.groups;
      const int64_t count = std::min(cut.groups - group, end - begin);
      const int64_t out = part * out_tiles / cut.outs * amx_rows;
      const int64_t out_end = std::min(conv.out, (part + 1) * out_tiles / cut.outs * amx_rows);
      for (int64_t chunk = 0; chunk * cut.chunk < cut.channel_tiles; ++chunk) {
        band.run(strip / cut.bands, strip % cut.bands, chunk, group * cut.rows,
                 std::min(conv.grid_h, (group + count) * cut.rows), out, out_end);
      }
      begin += count;
    }
    kernels.end();
  });
}

bool is_product(const ConvShape& s) {
  return s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 &&
         s.oh == s.h && s.ow == s.w;
}

}  // namespace

bool amx_conv(const ConvShape& s, const float* x, const float* w, float* y) {
  const AmxKernels* kernels = amx_kernels();
  if (kernels == nullptr || s.groups != 1) return false;
  if (is_product(s)) {
    const GemmShape product{
        .m = s.n * s.h * s.w, .n = s.o, .k = s.c, .trans_b = true, .lda = s.c, .ldb = s.c, .ldc = s.o};
    return amx_gemm(product, x, w, y);
  }
  const TapConv taps = forward_taps(s);
  if (skips_positions(s) || !worth(taps)) return false;
  const int64_t kernel = s.kh * s.kw;
  run_tap_conv(*kernels, taps, {w, kernel, taps.in * kernel, kernel}, x, y);
  return true;
}

bool amx_conv_input_gradient(const ConvShape& s, const float* w, const float* y_bar, float* x_bar) {
  const AmxKernels* kernels = amx_kernels();
  if (kernels == nullptr || s.groups != 1) return false;
  if (is_product(s)) {
    const GemmShape product{.m = s.n * s.h * s.w, .n = s.c, .k = s.o, .lda = s.o, .ldb = s.c, .ldc = s.c};
    return amx_gemm(product, y_bar, w, x_bar);
  }
  if (skips_positions(s) || !worth(forward_taps(s))) return false;
  const int64_t kernel = s.kh * s.kw;
  for (const Phase& phase : input_gradient_phases(s)) {
    run_tap_conv(*kernels, phase.conv, {w, s.c * kernel, kernel, kernel}, y_bar, x_bar + phase.y_offset);
  }
  return true;
}

}  // namespace palimpsest::cpu
