// Rounding to the noise grid and exact addition of noise in whole steps.
#include "unlearn/grid_noise.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace palimpsest {
namespace {

constexpr double kMostSteps = 0x1p53;  // sums below this many steps are exact in float64
constexpr int64_t kManyParameters = 10'000'000;

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

[[noreturn]] void refuse(const std::string& expected, double value, size_t index) {
  throw Error(ErrorCode::invalid_argument,
              expected + ", got " + text_of(value) + " at parameter " + std::to_string(index));
}

// w/h is exact: h is a power of two.
void require_on_grid(std::span<const double> w, const NoiseGrid& grid) {
  for (size_t i = 0; i < w.size(); ++i) {
    const double steps = w[i] / grid.spacing;
    if (!(std::fabs(steps) < kMostSteps) || grid.spacing * std::nearbyint(steps) != w[i]) {
      refuse("expected a mean on the noise grid of spacing " + text_of(grid.spacing), w[i], i);
    }
  }
}

// w := w + h k, or an error that leaves w as it was.
void add_steps(std::span<double> w, const std::vector<double>& steps, const NoiseGrid& grid) {
  for (size_t i = 0; i < w.size(); ++i) {
    if (!(std::fabs(w[i] / grid.spacing + steps[i]) < kMostSteps)) {
      refuse("expected sums below 2^53 steps of the noise grid of spacing " + text_of(grid.spacing), w[i], i);
    }
  }
  // + 0: a negative zero would tell on which side of 0 the mean lay.
  for (size_t i = 0; i < w.size(); ++i) w[i] = w[i] + grid.spacing * steps[i] + 0.0;
}

}  // namespace

NoiseGrid noise_grid(double scale, int64_t parameters) {
  if (!(scale >= 0x1p-900 && scale <= 0x1p900)) {
    throw Error(ErrorCode::invalid_argument, "expected a noise scale above 0 (2^-900 to 2^900), got " + text_of(scale));
  }
  if (parameters < 1) {
    throw Error(ErrorCode::invalid_argument, "expected at least one parameter, got " + std::to_string(parameters));
  }
  int exponent = 0;
  std::frexp(scale, &exponent);  // scale = m 2^exponent, 1/2 <= m < 1
  return {scale, std::ldexp(1.0, exponent - 1 - (parameters > kManyParameters ? 20 : 16))};
}

void round_to_grid(std::span<double> w, const NoiseGrid& grid) {
  for (size_t i = 0; i < w.size(); ++i) {
    if (!(std::fabs(w[i] / grid.spacing) < kMostSteps - 1)) {
      refuse("expected parameters below 2^53 steps of the noise grid of spacing " + text_of(grid.spacing), w[i], i);
    }
  }
  for (double& value : w) value = grid.spacing * std::nearbyint(value / grid.spacing) + 0.0;  // no -0
}

int64_t noise_steps(const NormalDeviate& deviate, const NoiseGrid& grid) {
  // s/h = m 2^-shift with an integer m in [2^52, 2^53); |n| s/h in units of 2^-(64 + shift) is the 128-bit integer
  // (integer 2^64 + fraction) m, of which the upper word, in units of 2^-shift, decides the rounding.
  int exponent = 0;
  const double mantissa = std::frexp(grid.scale / grid.spacing, &exponent);
  const uint64_t m = static_cast<uint64_t>(std::ldexp(mantissa, 53));
  const int shift = 53 - exponent;
  const uint64_t upper = wide_product(deviate.fraction, m).high + deviate.integer * m;
  const int64_t steps = static_cast<int64_t>((upper + (uint64_t{1} << (shift - 1))) >> shift);
  return deviate.negative ? -steps : steps;
}

void GridNoise::add(std::span<double> w) {
  require_on_grid(w, grid_);
  const int64_t count = static_cast<int64_t>(w.size());
  const int64_t chunks = (count + kNormalChunk - 1) / kNormalChunk;
  std::vector<double> steps(w.size());
  const uint64_t first = stream_;
  stream_ += static_cast<uint64_t>(chunks);  // spent even where the sums are refused
  parallel_for(chunks, 500.0 * static_cast<double>(count), [&](int64_t chunk) {
    GaussianSampler sampler(key_, first + static_cast<uint64_t>(chunk));
    const int64_t end = std::min(count, (chunk + 1) * kNormalChunk);
    for (int64_t i = chunk * kNormalChunk; i < end; ++i) {
      steps[static_cast<size_t>(i)] = static_cast<double>(noise_steps(sampler.draw(), grid_));
    }
  });
  add_steps(w, steps, grid_);
}

void GridNoise::add_shaped(std::span<double> w, std::span<const double> noise) const {
  if (noise.size() != w.size()) {
    throw Error(ErrorCode::shape,
                "expected noise for " + std::to_string(w.size()) + " parameters, got " + std::to_string(noise.size()));
  }
  require_on_grid(w, grid_);
  std::vector<double> steps(w.size());
  for (size_t i = 0; i < w.size(); ++i) steps[i] = std::nearbyint(noise[i] / grid_.spacing);
  add_steps(w, steps, grid_);
}

void to_float32(std::span<const double> sums, std::span<float> out) {
  if (sums.size() != out.size()) {
    throw Error(ErrorCode::shape,
                "expected room for " + std::to_string(sums.size()) + " numbers, got " + std::to_string(out.size()));
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    if (!std::isfinite(static_cast<float>(sums[i]))) refuse("expected a sum within float32", sums[i], i);
  }
  for (size_t i = 0; i < sums.size(); ++i) out[i] = static_cast<float>(sums[i]);
}

}  // namespace palimpsest
