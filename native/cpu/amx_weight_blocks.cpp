// From blocks of sums to a convolution's weights.
#include "cpu/amx_weight_blocks.h"

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {

void add_weight_parts(const ConvShape& s, int64_t parts, const float* sums, float* w) {
  const TypedKernels<float>& kernels = typed_kernels<float>();
  const int64_t taps = s.kh * s.kw, size = pairs(s.o) * pairs(s.c) * taps * block;
  float* memory = workspace<float>(Slot::amx_left, thread_count() * taps * block);
  const double work = static_cast<double>(size * parts);
  parallel_for(pairs(s.o) * pairs(s.c), work, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t o = at / pairs(s.c) * pair, c = at % pairs(s.c) * pair;
      const float* from = sums + at * taps * block;
      if (parts > 1) {
        float* added = memory + thread * taps * block;
        for (int64_t e = 0; e < taps * block; ++e) added[e] = from[e] + from[size + e];
        for (int64_t part = 2; part < parts; ++part) {
          for (int64_t e = 0; e < taps * block; ++e) added[e] += from[part * size + e];
        }
        from = added;
      }
      for (int64_t row = 0; row < std::min(pair, s.o - o); ++row) {
        kernels.transpose(taps, std::min(pair, s.c - c), from + row * pair, block, w + ((o + row) * s.c + c) * taps,
                          taps);
      }
    }
  });
}

}  // namespace palimpsest::cpu
