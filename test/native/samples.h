// The samples of the operator sweep: every row of the table with sizes, attributes and inputs that exercise its rules.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph_run.h"

namespace palimpsest::check {

// How the values of a leaf are drawn.
enum class Draw : uint8_t {
  range,     // uniform in [low, high], away from `kinks`
  distinct,  // a shuffled grid: no two values are near each other (maxima)
  gate,      // 0 and 1 in turn, as good as shuffled
  coin,      // 0 or 1
};

struct Leaf {
  Dims dims;
  double low = -1.5, high = 1.5;
  std::vector<double> kinks = {};  // no value comes nearer than `margin` to one of these
  double margin = 0.05;
  Draw draw = Draw::range;
  bool fixed = false;  // a constant of the sample: not differentiated
};

enum class Curve : uint8_t {
  smooth,    // central differences are good to their step's square
  exact,     // linear, bilinear or quadratic along every line: central differences with step 1 are exact
  constant,  // no derivative
};

struct Sample {
  Op op;
  std::string name;
  std::vector<Leaf> leaves;
  std::function<ValueId(Graph&, std::span<const ValueId>)> build;
  Curve curve = Curve::smooth;
  int orders = 2;      // how often the rules allow to differentiate it
  double dense = 0.5;  // the least share of the result that must not be zero
  int flat = -1;       // the leaf along which the derivative is zero everywhere, and so absent
};

std::vector<Sample> operator_samples();

// By family, for the file's size alone.
void add_elementwise_samples(std::vector<Sample>& samples);
void add_moving_samples(std::vector<Sample>& samples);
void add_window_samples(std::vector<Sample>& samples);
void add_product_samples(std::vector<Sample>& samples);

uint64_t seed_of(const std::string& name);
// What a leaf holds; the same for the same seed.
Values draw(const Leaf& leaf, uint64_t seed);
Values draw_normal(size_t count, uint64_t seed);

// A value that is the same in channels-last storage: an average pool over windows of one element.
ValueId in_channels_last(Graph& graph, ValueId x);

}  // namespace palimpsest::check
