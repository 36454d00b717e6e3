// What the sweep keeps away from: kinks, ties, and everything that rows refuse.
#include <cmath>
#include <limits>

#include "check.h"
#include "graph/derivative.h"
#include "ops/table.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

// f^(order)(x) m of a unary row at one point
double unary_at(Op op, double x, double alpha, double beta, int64_t order, double m = 1) {
  Graph graph(1);
  Attributes attributes;
  attributes.alpha = alpha, attributes.beta = beta, attributes.order = order;
  std::vector<ValueId> in = {graph.add_parameter(0, {1})};
  if (order > 0) in.push_back(graph.add_parameter(1, {1}));
  const ValueId y = graph.append(op, in, attributes);
  return run_graph(graph, holder({{1}, {1}}), {y}, {{{x}, {m}}, {}, {}, {}})[0][0];
}

struct Kink {
  Op op;
  double x, alpha, beta;
  int64_t order;
  double expected;
};

// As PyTorch has them.
const Kink kinks[] = {
    {Op::Relu, 0, 1, 0, 0, 0},
    {Op::Relu, 0, 1, 0, 1, 0},
    {Op::LeakyRelu, 0, 0.3, 0, 1, 0.3},
    {Op::Elu, 0, 0.7, 0, 1, 0.7},
    {Op::HardSigmoid, -2.5, 0.2, 0.5, 1, 0},
    {Op::HardSigmoid, 2.5, 0.2, 0.5, 1, 0},
    {Op::HardSwish, -3, 1, 0, 1, 0},
    {Op::HardSwish, 3, 1, 0, 1, 1},
    {Op::Clip, -0.5, -0.5, 0.75, 1, 1},
    {Op::Clip, 0.75, -0.5, 0.75, 1, 1},
    {Op::Abs, 0, 1, 0, 1, 0},
    {Op::Softsign, 0, 1, 0, 1, 1},
    {Op::Softsign, 0, 1, 0, 2, 0},
    {Op::Pow, 0, 2, 0, 1, 0},
    {Op::Pow, 0, 1, 0, 1, 1},
    {Op::Pow, 0, 0, 0, 0, 1},
    {Op::Pow, 0, 0, 0, 1, 0},
    {Op::Pow, 0, 3, 0, 2, 0},
};

}  // namespace

TEST(rules_at_kinks) {
  for (const Kink& k : kinks) {
    const double got = unary_at(k.op, k.x, k.alpha, k.beta, k.order);
    check(got == k.expected, __FILE__, __LINE__,
          std::string(row_of(k.op).name) + " order " + std::to_string(k.order) + " at " + std::to_string(k.x) +
              ": got " + std::to_string(got) + ", expected " + std::to_string(k.expected));
  }
  // A closed gate passes no infinity.
  const double infinity = std::numeric_limits<double>::infinity();
  for (Op op : {Op::Relu, Op::HardSwish, Op::HardSigmoid, Op::Clip})
    CHECK(unary_at(op, -9, 0.2, 0.5, 1, infinity) == 0);
  CHECK(std::isinf(unary_at(Op::Sqrt, 0, 1, 0, 1)));
}

namespace {

// The cotangent of x where y = op(x) is given a cotangent of 1, 2, 3, ...
Values pulled(Op op, const Attributes& attributes, const Dims& x, const Values& values) {
  Graph graph(1);
  const ValueId in = graph.add_parameter(0, x);
  const ValueId y = graph.append(op, {in}, attributes);
  const Dims dims = graph.dims(y);
  const std::pair<ValueId, ValueId> seed = {y, graph.add_parameter(1, dims)};
  const ValueId x_bar = transpose(graph, {&seed, 1}, {&in, 1})[0];
  Values bars(static_cast<size_t>(element_count(dims)));
  for (size_t i = 0; i < bars.size(); ++i) bars[i] = static_cast<double>(i + 1);
  return run_graph(graph, holder({x, dims}), {x_bar}, {{values, bars}, {}, {}, {}})[0];
}

}  // namespace

TEST(ties_go_to_the_first_maximum) {
  Attributes along;
  along.axis = 1;
  CHECK(pulled(Op::ReduceMax, along, {2, 3}, {5, 5, 5, 1, 4, 4}) == Values{1, 0, 0, 0, 2, 0});
  Attributes window;
  window.kernel = {2, 2}, window.strides = {2, 2};
  CHECK(pulled(Op::MaxPool, window, {1, 1, 2, 4}, {3, 3, 1, 2, 3, 3, 2, 2}) == Values{1, 0, 0, 2, 0, 0, 0, 0});
  window.pads = {1, 1, 1, 1};  // pads never win, not even over negative values
  CHECK(pulled(Op::MaxPool, window, {1, 1, 2, 2}, {-1, -2, -3, -4}) == Values{1, 2, 3, 4});
}

TEST(squares_have_no_derivative) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {2, 3, 4}), y = graph.add_parameter(1, {2, 3, 5});
  graph.append(Op::LinearGradientSquares, {x, y});
  const std::pair<ValueId, ValueId> seed = {x, graph.add_tangent(0, {2, 3, 4})};
  CHECK_THROWS(ErrorCode::unsupported, linearise(graph, {&seed, 1}));
}

// Second derivatives of batch normalisation need those of its statistics: refused, never taken for zero.
TEST(statistics_are_not_taken_for_constants) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {4, 3}), y_bar = graph.add_parameter(1, {4, 3});
  const ValueId y = graph.append(Op::BatchNormalizationTraining, {x});
  const std::pair<ValueId, ValueId> bar = {y, y_bar}, dot = {x, graph.add_tangent(0, {4, 3})};
  Graph forward = graph;
  CHECK(linearise(forward, {&dot, 1})[static_cast<size_t>(y)] != none);
  CHECK(transpose(forward, {&bar, 1}, {&x, 1})[0] != none);
  Graph backward = graph;
  const ValueId x_bar = transpose(backward, {&bar, 1}, {&x, 1})[0];
  CHECK_THROWS(ErrorCode::unsupported, Graph again = backward; linearise(again, {&dot, 1}));
  const std::pair<ValueId, ValueId> again = {x_bar, backward.add_parameter(2, {4, 3})};
  CHECK_THROWS(ErrorCode::unsupported, transpose(backward, {&again, 1}, {&x, 1}));
}

TEST(identical_nodes_are_one) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {2, 3});
  CHECK(graph.append(Op::Tanh, {x}) == graph.append(Op::Tanh, {x}));
  Attributes a, b;
  a.indices = {0}, b.indices = {1};
  CHECK(graph.append(Op::Gather, {x}, a) != graph.append(Op::Gather, {x}, b));
  a = {}, b = {};
  a.epsilon = 0.1;
  CHECK(graph.append(Op::BatchNormalizationTraining, {x}, a) != graph.append(Op::BatchNormalizationTraining, {x}, b));
  CHECK(graph.scale(x, 2) != graph.scale(x, -2));
  CHECK(graph.append(Op::Sub, {x, x}) != graph.append(Op::Add, {x, x}));
}

}  // namespace palimpsest::check
