// Standard normal deviates by exact rejection on 64-bit words, with two-sided tails without an end.
#pragma once

#include <cstdint>
#include <span>

#include "core/wide_product.h"
#include "unlearn/chacha20.h"

namespace palimpsest {

// The value is +-(integer + fraction / 2^64); fraction is odd, the middle of one of 2^63 equal parts of [0, 1).
struct NormalDeviate {
  bool negative;
  uint32_t integer;
  uint64_t fraction;

  double value() const;  // rounded to float64, relative error <= 2^-52
};

// Karney 2016, "Sampling exactly from the normal distribution", Algorithm N. Every choice compares 64-bit words, so
// probabilities are exact to 2^-64 where the algorithm is; a cell of width w has its mass to a relative error of about
// 2^-62/w in any part of either tail (6e-14 for w = 2^-18). `next` returns independent uniform 64-bit words.
template <class Source>
NormalDeviate draw_normal(Source& next);

// True with probability exp(-x (2k + x)/(2k + 2)), x = fraction/2^64 (Karney 2016, Algorithm B): the number of steps
// of a falling chain x > z1 > z2 > ..., each step taken with probability (2k + x)/(2k + 2), is even.
template <class Source>
bool accept_fraction(Source& next, uint64_t k, uint64_t fraction) {
  bool even = true;
  uint64_t last = fraction;
  for (;;) {
    const uint64_t z = next();
    if (z >= last) return even;
    const WideProduct product = wide_product(next(), 2 * k + 2);
    if (product.high > 2 * k || (product.high == 2 * k && product.low >= fraction)) return even;
    last = z;
    even = !even;
  }
}

// k >= 0 with probability proportional to exp(-k^2/2): geometric with ratio e^-1/2, kept with exp(-k (k - 1)/2).
template <class Source>
uint32_t draw_integer_part(Source& next) {
  constexpr uint64_t exp_minus_half = 11188515852577165300u;  // e^-1/2 2^64
  constexpr uint64_t exp_minus_one = 6786177901268885275u;    // e^-1 2^64
  for (;;) {
    uint32_t k = 0;
    while (next() < exp_minus_half) ++k;
    uint64_t trials = static_cast<uint64_t>(k) * (k > 0 ? k - 1 : 0) / 2;
    while (trials > 0 && next() < exp_minus_one) --trials;
    if (trials == 0) return k;
  }
}

template <class Source>
NormalDeviate draw_normal(Source& next) {
  for (;;) {
    const uint32_t k = draw_integer_part(next);
    const uint64_t word = next();
    const uint64_t fraction = word | 1;
    uint32_t trials = k + 1;
    while (trials > 0 && accept_fraction(next, k, fraction)) --trials;
    if (trials == 0) return {(word & 1) != 0, k, fraction};
  }
}

// Normal deviates from a stream of a key.
class GaussianSampler {
 public:
  explicit GaussianSampler(const SecretKey& key, uint64_t stream = 0) : words_(key, stream) {}

  NormalDeviate draw() { return draw_normal(words_); }
  double next() { return draw().value(); }

 private:
  ChaCha20 words_;
};

// out_i = independent N(0, 1), in chunks of 2^14 from the streams first_stream, first_stream + 1, ...; the same values
// on any number of threads. Returns the first stream that was not used.
uint64_t fill_normal(const SecretKey& key, uint64_t first_stream, std::span<double> out);

constexpr int64_t kNormalChunk = 1 << 14;

}  // namespace palimpsest
