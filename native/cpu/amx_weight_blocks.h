// Sums of a convolution's weights on AMX tiles, in blocks: [part][o pair][c pair][tap][32][32], where each part is a
// sum of its own over some of the positions or examples.
#pragma once

#include "backend/backend.h"
#include "cpu/amx_kernels.h"
#include "cpu/panels.h"

namespace palimpsest::cpu {

constexpr int64_t pair = 2 * amx_rows;  // outputs and channels of one call of the kernel
constexpr int64_t block = pair * pair;
constexpr int64_t cached_tiles = 400;  // packed, 1.2 MiB: they stay in the second-level cache

inline int64_t pairs(int64_t channels) { return ceil_div(channels, pair); }
inline int64_t tiles(int64_t channels) { return ceil_div(channels, amx_rows); }

// Of a part.
inline int64_t weight_blocks(const ConvShape& s) { return pairs(s.o) * pairs(s.c) * s.kh * s.kw; }

// [part][o pair][c pair][tap][32][32] -> [o][c][tap], the parts added in order.
void add_weight_parts(const ConvShape& shape, int64_t parts, const float* sums, float* w);

}  // namespace palimpsest::cpu
