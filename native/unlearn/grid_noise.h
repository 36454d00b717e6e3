// Gaussian noise in whole steps of a public grid, so that no low-order bit of a sum tells the mean it was added to.
#pragma once

#include <cstdint>
#include <span>

#include "unlearn/chacha20.h"
#include "unlearn/gaussian_sampler.h"

namespace palimpsest {

// Fixed with the noise scale, before any request, and public. For a mean w on the grid, w + h round(n/h) equals
// round_h(w + n): a function of the Gaussian w + n alone, so every formula for Gaussians holds for the rounded sums.
struct NoiseGrid {
  double scale;    // s, the standard deviation of the noise
  double spacing;  // h = 2^(floor(log2 s) - 16); 2^(floor(log2 s) - 20) for more than 10^7 parameters
};

// s finite and between 2^-900 and 2^900, at least one parameter.
NoiseGrid noise_grid(double scale, int64_t parameters);

// w := h round(w/h), ties to even. Throws ERR_INVALID_ARGUMENT where w is not finite or |w|/h reaches 2^53; the values
// are then unchanged.
void round_to_grid(std::span<double> w, const NoiseGrid& grid);

// The steps k with h k = round_h(s n) for the standard normal deviate n: exact in integers, never through a float.
int64_t noise_steps(const NormalDeviate& deviate, const NoiseGrid& grid);

// One release: every call adds noise that was not used before. One object, and so one key, a release.
class GridNoise {
 public:
  GridNoise(const NoiseGrid& grid, const SecretKey& key) : grid_(grid), key_(key) {}
  GridNoise(const GridNoise&) = delete;  // a copy would draw the same noise again
  GridNoise& operator=(const GridNoise&) = delete;

  // w := w + h k, k = round(n/h) with n ~ N(0, s^2), exactly. w must lie on the grid; throws ERR_INVALID_ARGUMENT where
  // it does not or where a sum reaches 2^53 h, with w unchanged.
  void add(std::span<double> w);

  // w := w + h round(noise/h) for noise drawn elsewhere (shaped by a factor of the curvature); same conditions, and
  // noise must be finite.
  void add_shaped(std::span<double> w, std::span<const double> noise) const;

 private:
  NoiseGrid grid_;
  SecretKey key_;
  uint64_t stream_ = 0;
};

// The released float32 numbers: rounding after the noise is post-processing. Throws ERR_INVALID_ARGUMENT where a sum
// is beyond float32, with out unchanged.
void to_float32(std::span<const double> sums, std::span<float> out);

}  // namespace palimpsest
