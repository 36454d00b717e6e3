// Per-example squares of a convolution's weight gradient on AMX tiles: every example's sums over its positions leave
// the tiles, and their squares are added up.
#include <algorithm>
#include <vector>

#include "cpu/amx.h"
#include "cpu/amx_pieces.h"
#include "cpu/amx_weight_blocks.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// How the work is cut. Pieces and parts depend on the shape only: they decide in which order a sum is added up.
struct Plan {
  AmxPieces pieces;
  int64_t parts;                   // of the examples
  int64_t x_cuts = 1, y_cuts = 1;  // of pairs of channel and output tiles
  int64_t examples = 1;            // that are packed together
};

// Tiles of an example that are packed for a cut.
int64_t held_x(const ConvShape& s, const AmxReach& reach, const Plan& plan) {
  const int64_t width = std::min(tiles(s.c), 2 * ceil_div(pairs(s.c), plan.x_cuts));
  return reach.span(plan.pieces.height) * static_cast<int64_t>(reach.columns().size()) * width;
}

int64_t held_y(const ConvShape& s, const Plan& plan) {
  return plan.pieces.height * plan.pieces.width * std::min(tiles(s.o), 2 * ceil_div(pairs(s.o), plan.y_cuts));
}

// Processor cycles, measured: squares of a block of sums in the first-level cache, and what moving it there takes.
constexpr double square_cycles = 250, move_cycles = 400;

double cost(const ConvShape& s, const AmxReach& reach, const Plan& plan, int threads) {
  const int64_t x_tiles = held_x(s, reach, plan), y_tiles = held_y(s, plan);
  const double x_packs = static_cast<double>(x_tiles * plan.x_cuts * plan.y_cuts);
  const double y_packs = static_cast<double>(y_tiles * plan.y_cuts * plan.x_cuts);
  const double streamed = (x_tiles + y_tiles) * plan.examples > cached_tiles ? 2 : 1;
  const double work =
      product_cycles(s, plan.pieces) * streamed + pack_cycles(plan.pieces, x_packs, y_packs) +
      static_cast<double>(weight_blocks(s)) * (square_cycles + move_cycles / static_cast<double>(plan.examples));
  const int64_t items = plan.parts * plan.x_cuts * plan.y_cuts;
  return static_cast<double>(s.n) * work * static_cast<double>(ceil_div(items, threads)) / static_cast<double>(items);
}

Plan make_plan(const ConvShape& s, const AmxPieces& pieces, const AmxReach& reach, int threads) {
  constexpr int64_t most_sums = 512, most_parts = 16;  // tiles of one tap's sums over all parts
  const int64_t most = std::min(most_parts, std::max<int64_t>(1, s.n / 2));
  Plan plan{pieces, std::clamp<int64_t>(most_sums / (tiles(s.c) * tiles(s.o)), 1, most)};
  Plan best = plan;
  double least = -1;
  for (plan.x_cuts = 1; plan.x_cuts <= pairs(s.c); plan.x_cuts *= 2) {
    for (plan.y_cuts = 1; plan.y_cuts <= pairs(s.o); plan.y_cuts *= 2) {
      const int64_t tiles_each = held_x(s, reach, plan) + held_y(s, plan);
      plan.examples = std::clamp<int64_t>(cached_tiles / tiles_each, 1, ceil_div(s.n, plan.parts));
      const double now = cost(s, reach, plan, threads);
      if (least < 0 || now < least) best = plan, least = now;
    }
  }
  return best;
}

// What a thread packs and multiplies.
class SquareSums {
 public:
  SquareSums(const ConvShape& s, const Plan& plan, const AmxReach& reach, const float* x, const float* y_bar)
      : s_(s), plan_(plan), reach_(reach), x_(x), y_bar_(y_bar) {
    x_width_ = std::min(tiles(s.c), 2 * ceil_div(pairs(s.c), plan.x_cuts));
    y_width_ = std::min(tiles(s.o), 2 * ceil_div(pairs(s.o), plan.y_cuts));
    list_steps();
  }

  // Items [begin, end): cuts of outputs within cuts of channels, each in parts.
  void run(const AmxKernels& kernels, int64_t begin, int64_t end, uint16_t* x_tiles, uint16_t* y_tiles,
           float* sums) const {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t part = item % plan_.parts, cut = item / plan_.parts;
      const int64_t x_cut = cut / plan_.y_cuts, y_cut = cut % plan_.y_cuts;
      const Cut now{pairs(s_.c) * x_cut / plan_.x_cuts, pairs(s_.c) * (x_cut + 1) / plan_.x_cuts,
                    pairs(s_.o) * y_cut / plan_.y_cuts, pairs(s_.o) * (y_cut + 1) / plan_.y_cuts};
      const int64_t last = s_.n * (part + 1) / plan_.parts;
      float* to = sums + part * weight_blocks(s_) * block;
      clear(now, to);
      for (int64_t e = s_.n * part / plan_.parts; e < last; e += plan_.examples) {
        const int64_t examples = std::min(plan_.examples, last - e);
        for (int64_t i = 0; i < examples; ++i) {
          pack(kernels, now, e + i, x_tiles + i * held_x(s_, reach_, plan_) * amx_tile,
               y_tiles + i * held_y(s_, plan_) * amx_tile);
        }
        add_squares(kernels, now, examples, x_tiles, y_tiles, to);
      }
    }
  }

 private:
  struct Cut {
    int64_t x, x_end, y, y_end;  // pairs
  };
  struct Steps {
    std::vector<int32_t> y, x;
  };

  float* block_of(float* sums, int64_t o, int64_t c) const {
    return sums + (o * pairs(s_.c) + c) * s_.kh * s_.kw * block;
  }

  void clear(const Cut& cut, float* sums) const {
    for (int64_t o = cut.y; o < cut.y_end; ++o) {
      std::fill(block_of(sums, o, cut.x), block_of(sums, o, cut.x_end), 0.0f);
    }
  }

  void pack(const AmxKernels& kernels, const Cut& cut, int64_t example, uint16_t* x_tiles, uint16_t* y_tiles) const {
    const AmxChannels channels{cut.x * pair, std::min(s_.c, cut.x_end * pair), x_width_};
    const AmxChannels outputs{cut.y * pair, std::min(s_.o, cut.y_end * pair), y_width_};
    const int64_t x_row = static_cast<int64_t>(reach_.columns().size()) * x_width_ * amx_tile;
    for (int64_t row = 0; row < reach_.span(plan_.pieces.height); ++row) {
      if (!reads_[static_cast<size_t>(row)]) continue;
      reach_.pack_x_row(kernels, x_, example, row - s_.pad_top, channels, x_tiles + row * x_row);
    }
    for (int64_t i = 0; i < plan_.pieces.height; ++i) {
      reach_.pack_y_row(kernels, y_bar_, example, i, outputs, y_tiles + i * plan_.pieces.width * y_width_ * amx_tile);
    }
  }

  // The pairs of tiles that each tap multiplies in an example, and the rows of x that are read.
  void list_steps() {
    reads_.assign(static_cast<size_t>(reach_.span(plan_.pieces.height)), false);
    for (int64_t tap = 0; tap < s_.kh * s_.kw; ++tap) {
      Steps& steps = lists_.emplace_back();
      for (int64_t i = 0; i < plan_.pieces.height; ++i) {
        const int64_t h = reach_.row(i, tap / s_.kw);
        if (!reach_.has_row(h)) continue;
        reads_[static_cast<size_t>(h + s_.pad_top)] = true;
        for (int64_t j = 0; j < plan_.pieces.width; ++j) {
          const int64_t place = reach_.place(reach_.column(j, tap % s_.kw));
          if (place < 0) continue;
          const int64_t columns = static_cast<int64_t>(reach_.columns().size());
          steps.y.push_back(static_cast<int32_t>((i * plan_.pieces.width + j) * y_width_));
          steps.x.push_back(static_cast<int32_t>(((h + s_.pad_top) * columns + place) * x_width_));
        }
      }
    }
  }

  // The block of sums of one tap stays in the first-level cache while all examples add to it.
  void add_squares(const AmxKernels& kernels, const Cut& cut, int64_t examples, const uint16_t* x_tiles,
                   const uint16_t* y_tiles, float* sums) const {
    alignas(64) float product[2][block] = {};
    const int64_t x_example = held_x(s_, reach_, plan_) * amx_tile, y_example = held_y(s_, plan_) * amx_tile;
    for (int64_t o = cut.y; o < cut.y_end; ++o) {
      for (int64_t c = cut.x; c < cut.x_end; ++c) {
        float* to = block_of(sums, o, c);
        for (const Steps& steps : lists_) {
          for (int64_t e = 0; e < examples; ++e) {
            kernels.multiply({.steps = static_cast<int64_t>(steps.y.size()),
                              .a = y_tiles + e * y_example + 2 * (o - cut.y) * amx_tile,
                              .a_at = steps.y.data(),
                              .a_second = 1,
                              .b = x_tiles + e * x_example + 2 * (c - cut.x) * amx_tile,
                              .b_at = steps.x.data(),
                              .b_second = 1,
                              .row_tiles = std::min<int64_t>(2, tiles(s_.o) - 2 * o),
                              .column_tiles = std::min<int64_t>(2, tiles(s_.c) - 2 * c),
                              .c = product[e % 2],
                              .c_distance = pair,
                              .c_second = amx_rows * pair,
                              .add = false});
            // One behind, so that the tiles work on the next example meanwhile.
            if (e > 0) kernels.add_squares(block, product[(e - 1) % 2], to);
          }
          kernels.add_squares(block, product[(examples - 1) % 2], to);
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
  int64_t x_width_, y_width_;  // tiles of a column
  std::vector<Steps> lists_;   // of each tap
  std::vector<bool> reads_;
};

// The AVX-512 kernel takes a cycle for about 50 FLOPs: it is as quick for images of 4 x 4, which fill half a tile, for
// 16 outputs and 16 channels, and for 1 x 1 kernels of few channels.
bool worth(const ConvShape& s, const AmxReach& reach, const Plan& plan) {
  constexpr double others = 50;
  const double positions = static_cast<double>(s.n * s.oh * s.ow), window = static_cast<double>(s.kh * s.kw);
  const double flops = 2 * positions * window * static_cast<double>(s.c) * static_cast<double>(s.o);
  return flops > others * cost(s, reach, plan, 1);
}

}  // namespace

bool amx_conv_grad_squares(const ConvShape& s, const float* x, const float* y_bar, float* squares) {
  const AmxKernels* kernels = amx_kernels();
  if (kernels == nullptr || s.groups != 1 || s.n * s.oh * s.ow * s.c * s.o * s.h * s.w == 0) return false;
  const AmxPieces pieces = choose_pieces(s, 1);
  const AmxReach reach(s, pieces);
  const Plan plan = make_plan(s, pieces, reach, thread_count());
  if (!worth(s, reach, make_plan(s, pieces, reach, 1))) return false;
  const SquareSums sums(s, plan, reach, x, y_bar);
  const int64_t x_size = plan.examples * held_x(s, reach, plan) * amx_tile;
  const int64_t y_size = plan.examples * held_y(s, plan) * amx_tile;
  uint16_t* x_tiles = workspace<uint16_t>(Slot::amx_right, thread_count() * x_size);
  uint16_t* y_tiles = workspace<uint16_t>(Slot::amx_left, thread_count() * y_size);
  float* all = workspace<float>(Slot::amx_sums, plan.parts * weight_blocks(s) * block);
  const double work = cost(s, reach, plan, 1);
  parallel_for(plan.parts * plan.x_cuts * plan.y_cuts, work, [&](int64_t begin, int64_t end, int thread) {
    kernels->begin();
    sums.run(*kernels, begin, end, x_tiles + thread * x_size, y_tiles + thread * y_size, all);
    kernels->end();
  });
  add_weight_parts(s, plan.parts, all, squares);
  return true;
}

// Tokens are the positions of a 1 x 1 convolution of y_bar whose adjoint is x: its squares are [I, O] as they stand.
bool amx_linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const float* x, const float* y_bar, float* s) {
  ConvShape shape;
  shape.n = n, shape.h = shape.oh = 1, shape.w = shape.ow = t, shape.c = o, shape.o = i;
  return amx_conv_grad_squares(shape, y_bar, x, s);
}

}  // namespace palimpsest::cpu
