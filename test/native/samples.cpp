// How leaves are drawn, and the list of all samples.
#include "samples.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace palimpsest::check {

namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t next() {  // splitmix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::acos(-1.0) * uniform()); }

 private:
  uint64_t state_;
};

Values shuffled_grid(size_t count, double low, double high, Random& random) {
  Values values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = low + (high - low) * (static_cast<double>(i) + 0.5) / static_cast<double>(count);
  }
  for (size_t i = count; i > 1; --i) std::swap(values[i - 1], values[random.next() % i]);
  return values;
}

}  // namespace

// FNV-1a
uint64_t seed_of(const std::string& name) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return hash;
}

Values draw(const Leaf& leaf, uint64_t seed) {
  Random random(seed);
  const auto count = static_cast<size_t>(element_count(leaf.dims));
  if (leaf.draw == Draw::distinct) return shuffled_grid(count, leaf.low, leaf.high, random);
  Values values;
  while (values.size() < count) {
    const size_t i = values.size();
    const double x = leaf.draw == Draw::coin   ? static_cast<double>(random.next() >> 63)
                     : leaf.draw == Draw::gate ? static_cast<double>((i / 2 + i + seed) % 2)
                                               : leaf.low + (leaf.high - leaf.low) * random.uniform();
    const bool near = std::any_of(leaf.kinks.begin(), leaf.kinks.end(),
                                  [&](double kink) { return std::abs(x - kink) < leaf.margin; });
    if (!near) values.push_back(x);
  }
  return values;
}

Values draw_normal(size_t count, uint64_t seed) {
  Random random(seed);
  Values values(count);
  for (double& value : values) value = random.normal();
  return values;
}

ValueId in_channels_last(Graph& graph, ValueId x) {
  Attributes attributes;
  attributes.kernel = {1, 1};
  return graph.append(Op::AveragePool, {x}, attributes);
}

std::vector<Sample> operator_samples() {
  std::vector<Sample> samples;
  add_elementwise_samples(samples);
  add_product_samples(samples);
  add_window_samples(samples);
  add_moving_samples(samples);
  return samples;
}

}  // namespace palimpsest::check
