// Samples of unary and arithmetic rows.
#include "ops/table.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

struct UnaryRange {
  Op op;
  double low, high;
  std::vector<double> kinks;
  double alpha = 1, beta = 0;
  bool bends = true;  // the second derivative is not zero everywhere
};

// Ranges keep more than half of the derivatives away from zero, kinks are where a derivative jumps.
const UnaryRange unary_ranges[] = {
    {Op::Relu, -0.7, 1.5, {0}, 1, 0, false},
    {Op::LeakyRelu, -1.5, 1.5, {0}, 0.01, 0, false},
    {Op::LeakyRelu, -1.5, 1.5, {0}, -0.7, 0, false},
    {Op::Elu, -2.5, 0.8, {0}, 1},
    {Op::Elu, -2.5, 0.8, {0}, 0.6},
    {Op::Sigmoid, -6, 6, {}},
    {Op::HardSigmoid, -3, 3, {-2.5, 2.5}, 0.2, 0.5, false},
    {Op::HardSigmoid, -3.4, 3.4, {-3, 3}, 1.0 / 6, 0.5, false},
    {Op::Tanh, -3, 3, {}},
    {Op::Gelu, -4, 4, {}},
    {Op::GeluTanh, -4, 4, {}},
    {Op::Silu, -6, 6, {}},
    {Op::HardSwish, -4, 4, {-3, 3}},
    {Op::Mish, -6, 6, {}},
    {Op::Softplus, -6, 6, {}},
    {Op::Softsign, -3, 3, {0}},
    {Op::Clip, -0.7, 1.1, {-0.5, 0.9}, -0.5, 0.9, false},
    {Op::Abs, -1.5, 1.5, {0}, 1, 0, false},
    {Op::Sqrt, 0.3, 2, {}},
    {Op::Pow, 0.3, 2, {}, 1.7},
    {Op::Pow, 0.3, 2, {}, -0.5},
    {Op::Pow, 0.3, 2, {}, 0.5},
    {Op::Pow, -1.5, 1.5, {0}, 2},
    {Op::Pow, -1.5, 1.5, {0}, 3},
    {Op::Pow, 0.3, 2, {}, -1},
    {Op::Pow, 0.3, 2, {}, -2},
    {Op::Pow, 0.3, 2, {}, 4},
    {Op::Exp, -2, 2, {}},
    {Op::Log, 0.3, 3, {}},
    {Op::Erf, -2, 2, {}},
    {Op::Reciprocal, -2, 2, {0}},
    {Op::Affine, -1.5, 1.5, {}, -1.3, 0.7, false},
};

Attributes unary_attributes(const UnaryRange& range, int64_t order) {
  Attributes attributes;
  attributes.alpha = range.alpha;
  attributes.beta = range.beta;
  attributes.order = order;
  return attributes;
}

// The row of order k with x of `dims`: f(x), f'(x) m, f''(x) m.
Sample unary_sample(const UnaryRange& range, const Dims& dims, int order) {
  Leaf x{dims, range.low, range.high, range.kinks, range.op == Op::Reciprocal ? 0.3 : 0.05};
  x.fixed = order == 2;  // a third derivative in x is refused
  std::string name =
      "alpha " + std::to_string(range.alpha) + ", order " + std::to_string(order) + ", " + to_string(dims);
  Sample sample{range.op, std::move(name), {x}, {}};
  if (order > 0) sample.leaves.push_back({dims});
  sample.build = [op = range.op, attributes = unary_attributes(range, order)](Graph& graph,
                                                                              std::span<const ValueId> in) {
    return graph.append(op, {in.begin(), in.end()}, attributes);
  };
  if (order == 1 && range.bends) sample.orders = 1;
  if (order == 1 && !range.bends) sample.flat = 0;
  // Step 1 would cross a kink.
  if (range.op == Op::Affine || order == 2) sample.curve = Curve::exact;
  return sample;
}

struct Shapes {
  Dims a, b;
};

const Shapes pair_shapes[] = {
    {{3, 7}, {3, 7}},
    {{3, 7}, {7}},
    {{7}, {3, 7}},
    {{3, 1}, {1, 7}},
    {{}, {2, 3}},
    {{2, 3}, {}},
    {{1}, {5}},
    {{2, 3, 4}, {3, 1}},
    {{2, 3, 4, 5}, {2, 3, 4, 5}},
    {{2, 3, 4, 5}, {1, 3, 1, 1}},
    {{3, 1, 1}, {2, 3, 4, 5}},
    {{2, 3, 4, 5}, {2, 1, 4, 5}},
    {{2, 3, 4, 5}, {2, 3, 1, 1}},
    {{1, 3, 1, 5}, {2, 1, 4, 1}},
    {{2, 3, 4, 5}, {4, 5}},
    {{2, 2, 3, 2, 3}, {3, 1, 1}},
};

Leaf operand(Op op, const Dims& dims, bool divisor) {
  if (op == Op::Div && divisor) return {dims, -2, 2, {0}, 0.4};
  if (op == Op::Equal || op == Op::GreaterOrEqual) return {dims, 0, 1, {}, 0, Draw::coin};  // ties
  return {dims};
}

void add_pairs(std::vector<Sample>& samples, Op op) {
  const bool constant = row_of(op).form == Form::constant;
  for (const Shapes& s : pair_shapes) {
    Sample sample{op, to_string(s.a) + " and " + to_string(s.b), {operand(op, s.a, false), operand(op, s.b, true)}, {}};
    sample.build = [op](Graph& graph, std::span<const ValueId> in) { return graph.append(op, {in[0], in[1]}); };
    if (constant) sample.curve = Curve::constant, sample.dense = 0.1;
    else if (op != Op::Div) sample.curve = Curve::exact;
    if (constant && element_count(s.a) < 2) continue;
    samples.push_back(std::move(sample));
  }
}

struct Triple {
  Dims c, a, b;
};

void add_where(std::vector<Sample>& samples) {
  const Triple shapes[] = {
      {{3, 7}, {3, 7}, {3, 7}},
      {{3, 7}, {7}, {}},
      {{7}, {3, 7}, {3, 1}},
      {{2, 1, 1}, {4}, {3, 1}},
      {{4, 1}, {1, 5}, {2, 1, 1}},
      {{2, 3, 4, 5}, {2, 3, 4, 5}, {3, 1, 1}},
      {{1, 3, 1, 1}, {2, 3, 4, 5}, {2, 3, 4, 5}},
  };
  for (const Triple& s : shapes) {
    Leaf condition{s.c, 0, 1, {}, 0, Draw::gate, true};
    samples.push_back({Op::Where,
                       to_string(s.c) + to_string(s.a) + to_string(s.b),
                       {condition, {s.a}, {s.b}},
                       [](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::Where, {in[0], in[1], in[2]});
                       },
                       Curve::exact});
  }
  samples.push_back({Op::Where,
                     "one condition",
                     {{{}, 0, 1, {}, 0, Draw::gate, true}, {{4}}, {{3, 1}}},
                     [](Graph& graph, std::span<const ValueId> in) {
                       return graph.append(Op::Where, {in[0], in[1], in[2]});
                     },
                     Curve::exact,
                     0});
  samples.push_back({Op::Where,
                     "max(a, b) by Greater",
                     {{{3, 5}, -1, 1, {}, 0, Draw::distinct}, {{5}, 0.03, 0.04}},
                     [](Graph& graph, std::span<const ValueId> in) {
                       return graph.append(Op::Where, {graph.append(Op::Greater, {in[0], in[1]}), in[0], in[1]});
                     }});
}

}  // namespace

void add_elementwise_samples(std::vector<Sample>& samples) {
  for (const UnaryRange& range : unary_ranges) {
    for (const Dims& dims : {Dims{3, 7}, Dims{2, 3, 4, 5}}) {
      samples.push_back(unary_sample(range, dims, 0));
      if (range.op == Op::Affine) continue;  // its derivative is another Affine
      samples.push_back(unary_sample(range, dims, 1));
      if (range.bends) samples.push_back(unary_sample(range, dims, 2));
    }
    UnaryRange upper = range;  // one value: not on the flat side
    upper.low = (range.low + 3 * range.high) / 4;
    upper.high = range.high - 0.3 * (range.high - upper.low);
    if (range.op != Op::HardSigmoid && range.op != Op::Clip && range.op != Op::Elu)
      samples.push_back(unary_sample(upper, {}, 0));
  }
  for (Op op : {Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Greater, Op::GreaterOrEqual, Op::Equal}) add_pairs(samples, op);
  add_where(samples);
  samples.push_back({Op::Pow,
                     "exponent 1",
                     {{{3, 7}}},
                     [](Graph& graph, std::span<const ValueId> in) { return graph.append(Op::Pow, {in[0]}); },
                     Curve::exact,
                     1});
  samples.push_back({Op::Mul,
                     "a square",
                     {{{3, 7}}},
                     [](Graph& graph, std::span<const ValueId> in) { return graph.mul(in[0], in[0]); },
                     Curve::exact});
  samples.push_back({Op::Add,
                     "a double",
                     {{{3, 7}}},
                     [](Graph& graph, std::span<const ValueId> in) { return graph.add(in[0], in[0]); },
                     Curve::exact});
  samples.push_back(
      {Op::Div, "x / (1 + x^2)", {{{3, 7}}}, [](Graph& graph, std::span<const ValueId> in) {
         Attributes shift;
         shift.beta = 1;
         return graph.append(Op::Div, {in[0], graph.append(Op::Affine, {graph.mul(in[0], in[0])}, shift)});
       }});
}

}  // namespace palimpsest::check
