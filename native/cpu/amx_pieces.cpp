// The cut of a convolution's positions into pieces for AMX tiles.
#include "cpu/amx_pieces.h"

#include <algorithm>

#include "cpu/amx_kernels.h"
#include "cpu/panels.h"
#include "cpu/tap_conv.h"

namespace palimpsest::cpu {
namespace {

// Positions along one axis at which its taps read inside of x, added up. Several pieces read what any of them reads.
int64_t axis_steps(int64_t pieces, int64_t size, int64_t grid, int64_t kernel, int64_t stride, int64_t dilation,
                   int64_t pad, int64_t positions) {
  if (pieces > 1) return kernel * positions;
  int64_t steps = 0;
  for (int64_t k = 0; k < kernel; ++k) {
    const Columns inside = inside_columns(grid, stride, k * dilation - pad, size);
    steps += inside.last - inside.first;
  }
  return steps;
}

}  // namespace

// Four products of tiles that do not wait for each other take 384 cycles with their six parts, one or two 312.
double product_cycles(const ConvShape& s, const AmxPieces& p) {
  const int64_t in = ceil_div(s.c, amx_rows), out = ceil_div(s.o, amx_rows);
  const int64_t full = (in / 2) * (out / 2), all = ceil_div(in, 2) * ceil_div(out, 2);
  const int64_t steps = axis_steps(p.rows, s.h, s.oh, s.kh, s.stride_h, s.dilation_h, s.pad_top, p.height) *
                        axis_steps(p.columns, s.w, s.ow, s.kw, s.stride_w, s.dilation_w, s.pad_left, p.width);
  return static_cast<double>(steps * (384 * full + 312 * (all - full)));
}

// Images lie far apart: every line of a tile's comes from another page.
double pack_cycles(const AmxPieces& p, double x_tiles, double y_tiles) {
  const double fetch = 400 + 12 * static_cast<double>(p.images);
  return x_tiles * fetch + y_tiles * (fetch + 200);
}

double piece_cycles(const ConvShape& s, const AmxPieces& p) {
  const int64_t in = ceil_div(s.c, amx_rows), out = ceil_div(s.o, amx_rows);
  const int64_t wide = std::min((p.width - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1, p.width * s.kw);
  const int64_t high = std::min((p.height - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1, p.height * s.kh);
  // The rows of x and y_bar that taps share, of a few tiles each, have to fit into the second-level cache.
  constexpr int64_t most_tiles = 400, few = 4;
  const int64_t held = ((s.kh - 1) * s.dilation_h + 1) * wide * std::min(in, few) + p.width * std::min(out, few);
  const double products = product_cycles(s, p) * (held > most_tiles ? 2 : 1);
  const double packing =
      pack_cycles(p, static_cast<double>(high * wide * in), static_cast<double>(p.height * p.width * out));
  return static_cast<double>(p.groups) * (products + packing);
}

AmxPieces choose_pieces(const ConvShape& s, int64_t images) {
  AmxPieces best{};
  double least = 0;
  for (int64_t n = std::min({images, s.n, amx_depth}); n >= 1; --n) {
    for (int64_t rows = 1; rows * n <= amx_depth && rows <= s.oh; ++rows) {
      const int64_t columns = std::min(s.ow, amx_depth / (n * rows));
      for (const int64_t c : {columns, int64_t{1}}) {
        const AmxPieces pieces{n, rows, c, ceil_div(s.oh, rows), ceil_div(s.ow, c), ceil_div(s.n, n)};
        const double cost = piece_cycles(s, pieces);
        if (best.images == 0 || cost < least) best = pieces, least = cost;
      }
    }
  }
  return best;
}

AmxReach::AmxReach(const ConvShape& shape, const AmxPieces& pieces) : shape_(shape), pieces_(pieces) {
  const int64_t last = column(pieces.width - 1, shape.kw - 1);
  std::vector<bool> read(static_cast<size_t>(std::max<int64_t>(0, last + 1 + shape.pad_left)), false);
  for (int64_t j = 0; j < pieces.width; ++j) {
    for (int64_t kw = 0; kw < shape.kw; ++kw) read[static_cast<size_t>(column(j, kw) + shape.pad_left)] = true;
  }
  places_.assign(read.size(), -1);
  for (size_t at = 0; at < read.size(); ++at) {
    const int64_t w = static_cast<int64_t>(at) - shape.pad_left;
    bool inside = false;
    for (int64_t piece = 0; piece < pieces.columns; ++piece) {
      const int64_t here = w + piece * pieces.width * shape.stride_w;
      inside |= here >= 0 && here < shape.w;
    }
    if (!inside || !read[at]) continue;
    places_[at] = static_cast<int64_t>(columns_.size());
    columns_.push_back(w);
  }
}

bool AmxReach::has_row(int64_t h) const {
  for (int64_t piece = 0; piece < pieces_.rows; ++piece, h += pieces_.height * shape_.stride_h) {
    if (h >= 0 && h < shape_.h) return true;
  }
  return false;
}

namespace {

// Image n's piece (r, c) starts at from + n image + r row + c column, elements; none in rows outside of [0, rows).
struct Start {
  int64_t images, image, rows, row, column;
};

// Where the amx_depth steps of a row's tiles start, for its column 0; null where there is none.
void find(const AmxPieces& pieces, const Start& start, const float* from, int64_t group, int64_t first_row,
          int64_t row_step, const float** at) {
  const float** end = at + amx_depth;
  const int64_t first = group * pieces.images, last = std::min(start.images, first + pieces.images);
  for (int64_t n = first; n < last; ++n) {
    for (int64_t r = 0; r < pieces.rows; ++r) {
      const int64_t row = first_row + r * row_step;
      const bool inside = row >= 0 && row < start.rows;
      const float* place = inside ? from + n * start.image + row * start.row : nullptr;
      for (int64_t c = 0; c < pieces.columns; ++c) *at++ = inside ? place + c * start.column : nullptr;
    }
  }
  std::fill(at, end, nullptr);
}

// The list for one column: that of the row, or `kept`, a copy without the pieces that have it outside.
const float* const* keep(const AmxPieces& pieces, int64_t column, int64_t step, int64_t width, const float* const* at,
                         const float** kept) {
  if (column >= 0 && column + (pieces.columns - 1) * step < width) return at;
  for (int64_t e = 0; e < amx_depth; ++e) {
    const int64_t here = column + e % pieces.columns * step;
    kept[e] = here >= 0 && here < width ? at[e] : nullptr;
  }
  return kept;
}

}  // namespace

void AmxReach::pack_x_row(const AmxKernels& kernels, const float* x, int64_t group, int64_t h,
                          const AmxChannels& channels, uint16_t* to) const {
  const int64_t row = shape_.w * shape_.c, step = pieces_.width * shape_.stride_w;
  const float* row_at[amx_depth];
  const float* kept[amx_depth];
  find(pieces_, {shape_.n, shape_.h * row, shape_.h, row, step * shape_.c}, x, group, h,
       pieces_.height * shape_.stride_h, row_at);
  for (const int64_t w : columns_) {
    const float* const* at = keep(pieces_, w, step, shape_.w, row_at, kept);
    uint16_t* tile = to;
    for (int64_t c = channels.first; c < channels.last; c += amx_rows, tile += amx_tile) {
      kernels.pack_right_at(std::min(amx_rows, channels.last - c), at, w * shape_.c + c, tile);
    }
    to += channels.tiles * amx_tile;
  }
}

void AmxReach::pack_y_row(const AmxKernels& kernels, const float* y, int64_t group, int64_t i,
                          const AmxChannels& outputs, uint16_t* to) const {
  const int64_t row = shape_.ow * shape_.o;
  const float* row_at[amx_depth];
  const float* kept[amx_depth];
  find(pieces_, {shape_.n, shape_.oh * row, shape_.oh, row, pieces_.width * shape_.o}, y, group, i, pieces_.height,
       row_at);
  for (int64_t j = 0; j < pieces_.width; ++j) {
    const float* const* at = keep(pieces_, j, pieces_.width, shape_.ow, row_at, kept);
    uint16_t* tile = to;
    for (int64_t o = outputs.first; o < outputs.last; o += amx_rows, tile += amx_tile) {
      kernels.pack_left_at(std::min(amx_rows, outputs.last - o), at, j * shape_.o + o, tile);
    }
    to += outputs.tiles * amx_tile;
  }
}

}  // namespace palimpsest::cpu
