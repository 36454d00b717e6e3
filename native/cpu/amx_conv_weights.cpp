// Weight gradient of a convolution on AMX tiles: k runs over positions, a tap is a list of pairs of packed tiles.
#include <algorithm>
#include <vector>

#include "cpu/amx.h"
#include "cpu/amx_pieces.h"
#include "cpu/amx_weight_blocks.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/panels.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// How the work is cut. Pieces and parts depend on the shape only: they decide in which order a sum is added up.
struct Plan {
  AmxPieces pieces;
  int64_t parts;                   // of all rows of positions, summed apart
  int64_t x_cuts = 1, y_cuts = 1;  // of pairs of channel and output tiles
  int64_t rows = 1;                // of positions that are packed together
};

// Processor cycles of a thread's share, as packing and cache misses weigh on them; twice where the packed tiles do not
// stay in the cache.
double cost(const ConvShape& s, const AmxReach& reach, const Plan& plan, int threads) {
  const AmxPieces& pieces = plan.pieces;
  const int64_t x_tiles = std::min(tiles(s.c), 2 * ceil_div(pairs(s.c), plan.x_cuts));
  const int64_t y_tiles = std::min(tiles(s.o), 2 * ceil_div(pairs(s.o), plan.y_cuts));
  const int64_t columns = static_cast<int64_t>(reach.columns().size());
  const int64_t held = reach.span(plan.rows) * columns * x_tiles + plan.rows * pieces.width * y_tiles;
  const bool stays = plan.rows == pieces.height && pieces.groups == 1;
  const double x_packs = static_cast<double>(reach.span(pieces.height) * columns * tiles(s.c));
  const double y_packs = static_cast<double>(pieces.height * pieces.width * tiles(s.o) * plan.x_cuts);
  const double spills = static_cast<double>(ceil_div(pieces.height, plan.rows) * tiles(s.c) * tiles(s.o) * s.kh * s.kw);
  const double spill = x_tiles * y_tiles * s.kh * s.kw > 400 ? 400 : 100;  // tiles of sums in memory, in the cache
  const double work = product_cycles(s, pieces) * (held > cached_tiles ? 2 : 1) + spill * spills +
                      pack_cycles(pieces, x_packs * (stays ? 1.0 : static_cast<double>(plan.y_cuts)), y_packs);
  const int64_t items = plan.parts * plan.x_cuts * plan.y_cuts;
  return static_cast<double>(pieces.groups) * work * static_cast<double>(ceil_div(items, threads)) /
         static_cast<double>(items);
}

Plan make_plan(const ConvShape& s, const AmxPieces& pieces, const AmxReach& reach, int threads) {
  constexpr int64_t most_sums = 512, most_parts = 16;  // tiles of one tap's sums over all parts
  constexpr int64_t least_steps = 32;                  // of a part
  const int64_t lines = pieces.groups * pieces.height;
  const int64_t most = std::min({most_parts, lines, lines * pieces.width / least_steps});
  Plan plan{pieces, std::clamp<int64_t>(most_sums / (tiles(s.c) * tiles(s.o)), 1, std::max<int64_t>(most, 1))};
  Plan best = plan;
  double least = -1;
  for (plan.x_cuts = 1; plan.x_cuts <= pairs(s.c); plan.x_cuts *= 2) {
    for (plan.y_cuts = 1; plan.y_cuts <= pairs(s.o); plan.y_cuts *= 2) {
      for (int64_t rows = pieces.height; rows >= 1; rows = rows == 1 ? 0 : ceil_div(rows, 2)) {
        plan.rows = rows;
        const double now = cost(s, reach, plan, threads);
        if (least < 0 || now < least) best = plan, least = now;
      }
    }
  }
  return best;
}

// What a thread packs and multiplies.
class WeightSums {
 public:
  WeightSums(const ConvShape& s, const Plan& plan, const AmxReach& reach, const float* x, const float* y_bar)
      : s_(s), plan_(plan), reach_(reach), x_(x), y_bar_(y_bar) {}

  int64_t x_tiles() const { return reach_.span(plan_.rows) * columns() * x_width(); }
  int64_t y_tiles() const { return plan_.rows * plan_.pieces.width * y_width(); }

  // Items [begin, end): cuts of outputs within cuts of channels, each in parts.
  void run(const AmxKernels& kernels, int64_t begin, int64_t end, uint16_t* x_tiles, uint16_t* y_tiles, float* sums) {
    x_at_ = x_tiles, y_at_ = y_tiles;
    held_.assign(static_cast<size_t>(reach_.span(plan_.rows)), -1);
    lists_.resize(static_cast<size_t>(s_.kh * s_.kw));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t part = item % plan_.parts, cut = item / plan_.parts;
      const Cut now{
          pairs(s_.c) * (cut / plan_.y_cuts) / plan_.x_cuts, pairs(s_.c) * (cut / plan_.y_cuts + 1) / plan_.x_cuts,
          pairs(s_.o) * (cut % plan_.y_cuts) / plan_.y_cuts, pairs(s_.o) * (cut % plan_.y_cuts + 1) / plan_.y_cuts};
      if (now.x != cut_.x) std::fill(held_.begin(), held_.end(), -1);
      cut_ = now;
      sum_part(kernels, part, sums + part * weight_blocks(s_) * block);
    }
  }

 private:
  struct Cut {
    int64_t x = -1, x_end = -1, y = -1, y_end = -1;  // pairs
  };
  struct Steps {
    std::vector<int32_t> y, x;
  };

  int64_t columns() const { return static_cast<int64_t>(reach_.columns().size()); }
  int64_t x_width() const { return std::min(tiles(s_.c), 2 * ceil_div(pairs(s_.c), plan_.x_cuts)); }
  int64_t y_width() const { return std::min(tiles(s_.o), 2 * ceil_div(pairs(s_.o), plan_.y_cuts)); }

  void sum_part(const AmxKernels& kernels, int64_t part, float* sums) {
    const int64_t height = plan_.pieces.height, lines = plan_.pieces.groups * height;
    const int64_t first = lines * part / plan_.parts, last = lines * (part + 1) / plan_.parts;
    for (int64_t line = first; line < last;) {
      const int64_t group = line / height, i = line % height;
      const int64_t rows = std::min({plan_.rows, last - line, height - i});
      pack_y(kernels, group, i, rows);
      for (int64_t row = i; row < i + rows; ++row) {
        for (int64_t kh = 0; kh < s_.kh; ++kh) pack_x(kernels, group, reach_.row(row, kh));
      }
      list_steps(i, rows);
      multiply(kernels, line != first, sums);
      line += rows;
    }
  }

  void pack_y(const AmxKernels& kernels, int64_t group, int64_t i, int64_t rows) {
    const AmxChannels outputs{cut_.y * pair, std::min(s_.o, cut_.y_end * pair), y_width()};
    for (int64_t row = 0; row < rows; ++row) {
      reach_.pack_y_row(kernels, y_bar_, group, i + row, outputs,
                        y_at_ + row * plan_.pieces.width * y_width() * amx_tile);
    }
  }

  int64_t slot(int64_t h) const { return (h + s_.pad_top) % reach_.span(plan_.rows); }

  void pack_x(const AmxKernels& kernels, int64_t group, int64_t h) {
    int64_t& held = held_[static_cast<size_t>(slot(h))];
    const int64_t key = group * (reach_.span(plan_.pieces.height) + 1) + h + s_.pad_top;
    if (held == key || !reach_.has_row(h)) return;
    held = key;
    const AmxChannels channels{cut_.x * pair, std::min(s_.c, cut_.x_end * pair), x_width()};
    reach_.pack_x_row(kernels, x_, group, h, channels, x_at_ + slot(h) * columns() * x_width() * amx_tile);
  }

  // The pairs of tiles that each tap multiplies in these rows.
  void list_steps(int64_t i, int64_t rows) {
    for (int64_t tap = 0; tap < s_.kh * s_.kw; ++tap) {
      Steps& steps = lists_[static_cast<size_t>(tap)];
      steps.x.clear(), steps.y.clear();
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t h = reach_.row(i + row, tap / s_.kw);
        if (!reach_.has_row(h)) continue;
        for (int64_t j = 0; j < plan_.pieces.width; ++j) {
          const int64_t place = reach_.place(reach_.column(j, tap % s_.kw));
          if (place < 0) continue;
          steps.y.push_back(static_cast<int32_t>((row * plan_.pieces.width + j) * y_width()));
          steps.x.push_back(static_cast<int32_t>((slot(h) * columns() + place) * x_width()));
        }
      }
    }
  }

  void multiply(const AmxKernels& kernels, bool add, float* sums) const {
    const int64_t taps = s_.kh * s_.kw;
    for (int64_t o = cut_.y; o < cut_.y_end; ++o) {
      for (int64_t c = cut_.x; c < cut_.x_end; ++c) {
        float* to = sums + (o * pairs(s_.c) + c) * taps * block;
        for (const Steps& steps : lists_) {
          kernels.multiply({.steps = static_cast<int64_t>(steps.y.size()),
                            .a = y_at_ + 2 * (o - cut_.y) * amx_tile,
                            .a_at = steps.y.data(),
                            .a_second = 1,
                            .b = x_at_ + 2 * (c - cut_.x) * amx_tile,
                            .b_at = steps.x.data(),
                            .b_second = 1,
                            .row_tiles = std::min<int64_t>(2, tiles(s_.o) - 2 * o),
                            .column_tiles = std::min<int64_t>(2, tiles(s_.c) - 2 * c),
                            .c = to,
                            .c_distance = pair,
                            .c_second = amx_rows * pair,
                            .add = add});
          to += block;
        }
      }
    }
  }

  const ConvShape& s_;
  const Plan& plan_;
  const AmxReach& reach_;
  const float* x_;
  const float* y_bar_;
  uint16_t *x_at_ = nullptr, *y_at_ = nullptr;
  Cut cut_;
  std::vector<int64_t> held_;  // the row of x in each slot
  std::vector<Steps> lists_;   // of each tap
};

// oneDNN's products take a cycle for about 40 FLOPs: it is as quick for 16 outputs and 16 channels, for 1 x 1 kernels
// of few channels, and quicker below that.
bool worth(const ConvShape& s, const AmxPieces& pieces) {
  constexpr double others = 40;
  const double positions = static_cast<double>(s.n * s.oh * s.ow), window = static_cast<double>(s.kh * s.kw);
  const double flops = 2 * positions * window * static_cast<double>(s.c) * static_cast<double>(s.o);
  return flops > others * piece_cycles(s, pieces);
}

}  // namespace

bool amx_conv_weight_gradient(const ConvShape& s, const float* x, const float* y_bar, float* w_bar) {
  const AmxKernels* kernels = amx_kernels();
  if (kernels == nullptr || s.groups != 1 || s.n * s.oh * s.ow * s.c * s.o * s.h * s.w == 0) return false;
  const AmxPieces pieces = choose_pieces(s, s.n);
  if (!worth(s, pieces)) return false;
  const AmxReach reach(s, pieces);
  const Plan plan = make_plan(s, pieces, reach, thread_count());
  WeightSums sums(s, plan, reach, x, y_bar);
  const int64_t x_size = sums.x_tiles() * amx_tile, y_size = sums.y_tiles() * amx_tile;
  uint16_t* x_tiles = workspace<uint16_t>(Slot::amx_right, thread_count() * x_size);
  uint16_t* y_tiles = workspace<uint16_t>(Slot::amx_left, thread_count() * y_size);
  float* all = workspace<float>(Slot::amx_sums, plan.parts * weight_blocks(s) * block);
  const double work = piece_cycles(s, pieces);
  parallel_for(plan.parts * plan.x_cuts * plan.y_cuts, work, [&](int64_t begin, int64_t end, int thread) {
    WeightSums own = sums;
    kernels->begin();
    own.run(*kernels, begin, end, x_tiles + thread * x_size, y_tiles + thread * y_size, all);
    kernels->end();
  });
  add_weight_parts(s, plan.parts, all, w_bar);
  return true;
}

}  // namespace palimpsest::cpu
