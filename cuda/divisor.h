// Division of non-negative 32-bit integers by a number that a whole kernel shares.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace palimpsest::cuda {

// n / d = (n m) >> (31 + s) for 0 <= n < 2^31, with s = ceil(log2 d) and m = ceil(2^(31 + s) / d).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int64_t divisor) : divisor_(static_cast<int32_t>(divisor)) {
    int32_t bits = 0;
    while ((int64_t{1} << bits) < divisor) ++bits;
    if (divisor <= 1) return;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << (31 + bits)) + divisor - 1) / static_cast<uint64_t>(divisor));
    shift_ = bits - 1;
  }

  __device__ __forceinline__ int32_t value() const { return divisor_; }
  __device__ __forceinline__ int32_t divide(int32_t n) const {
    const auto high = static_cast<uint32_t>((uint64_t{static_cast<uint32_t>(n)} * multiplier_) >> 32);  // mul.hi.u32
    const auto quotient = static_cast<int32_t>(high >> shift_);
    return divisor_ == 1 ? n : quotient;
  }

 private:
  int32_t divisor_ = 1;
  uint32_t multiplier_ = 0;
  int32_t shift_ = 0;
};

}  // namespace palimpsest::cuda
