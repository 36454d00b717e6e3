// Finiteness by exponents alone, which compilers turn into whole vectors of integers.
#include "core/finite.h"

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

}  // namespace

bool all_finite(const float* values, int64_t count) { return exponents_below(uint32_t{0xff} << 23, values, count); }
bool all_finite(const double* values, int64_t count) { return exponents_below(uint64_t{0x7ff} << 52, values, count); }

}  // namespace palimpsest
