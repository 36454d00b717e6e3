// Finiteness by exponents alone, which compilers turn into whole vectors of integers.
#include "core/finite.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace palimpsest {
namespace {

template <class Bits, class T>
bool exponents_below(Bits exponent, const T* values, int64_t count) {
  static_assert(sizeof(Bits) == sizeof(T));
  Bits bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bad |= (bits & exponent) == exponent;
  }
  return bad == 0;
}

// Pieces stay in the first-level cache between copy and check.
template <class T>
int64_t copy_pieces(const T* from, int64_t count, T* to) {
  constexpr int64_t piece = 2048;
  for (int64_t begin = 0; begin < count; begin += piece) {
    const int64_t end = std::min(begin + piece, count);
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(T));
    if (all_finite(to + begin, end - begin)) continue;
    return std::find_if(to + begin, to + end, [](T value) { return !std::isfinite(value); }) - to;
  }
  return count;
}

}  // namespace

bool all_finite(const float* values, int64_t count) { return exponents_below(uint32_t{0xff} << 23, values, count); }
bool all_finite(const double* values, int64_t count) { return exponents_below(uint64_t{0x7ff} << 52, values, count); }
int64_t copy_finite(const float* from, int64_t count, float* to) { return copy_pieces(from, count, to); }
int64_t copy_finite(const double* from, int64_t count, double* to) { return copy_pieces(from, count, to); }

}  // namespace palimpsest
