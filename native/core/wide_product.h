// The 128-bit product of two 64-bit integers, from 32-bit halves.
#pragma once

#include <cstdint>

namespace palimpsest {

struct WideProduct {
  uint64_t high, low;
};

inline WideProduct wide_product(uint64_t a, uint64_t b) {
  constexpr uint64_t half = 0xffffffff;
  const uint64_t low = (a & half) * (b & half);
  const uint64_t middle = (a >> 32) * (b & half) + (low >> 32);
  const uint64_t cross = (a & half) * (b >> 32) + (middle & half);
  return {(a >> 32) * (b >> 32) + (middle >> 32) + (cross >> 32), (cross << 32) | (low & half)};
}

}  // namespace palimpsest
