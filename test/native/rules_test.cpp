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

namespace {

struct Refusal {
  const char* name;
  ErrorCode code;
  std::function<void(Graph&)> build;
};

ValueId leaf(Graph& graph, Dims dims) { return graph.add_parameter(0, std::move(dims)); }

template <class Set>
Attributes with(Set set) {
  Attributes attributes;
  set(attributes);
  return attributes;
}

constexpr int64_t huge = std::numeric_limits<int64_t>::max();

Attributes slice(Dims starts, Dims steps, Dims dims) {
  return with([&](Attributes& a) { a.starts = starts, a.steps = steps, a.dims = dims; });
}
Attributes window(Dims kernel, Dims strides = {}, Dims pads = {}, Dims dilations = {}) {
  return with([&](Attributes& a) { a.kernel = kernel, a.strides = strides, a.pads = pads, a.dilations = dilations; });
}
Attributes to_dims(Dims dims) {
  return with([&](Attributes& a) { a.dims = dims; });
}
Attributes along(int64_t axis, Dims indices = {}) {
  return with([&](Attributes& a) { a.axis = axis, a.indices = indices; });
}

void append(Graph& graph, Op op, std::vector<Dims> operands, const Attributes& attributes = {}) {
  std::vector<ValueId> in;
  for (const Dims& dims : operands) in.push_back(leaf(graph, dims));
  graph.append(op, in, attributes);
}

const Refusal refusals[] = {
    {"an input that does not exist", ErrorCode::model_format, [](Graph& g) { g.append(Op::Relu, {7}); }},
    {"an absent input", ErrorCode::model_format, [](Graph& g) { g.append(Op::Relu, {none}); }},
    {"too few inputs", ErrorCode::shape, [](Graph& g) { append(g, Op::Add, {{2}}); }},
    {"too many inputs", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Add, {{2}, {2}, {2}});
     }},
    {"an empty dimension", ErrorCode::shape,
     [](Graph& g) {
       leaf(g, {2, 0});
     }},
    {"a negative dimension", ErrorCode::shape,
     [](Graph& g) {
       leaf(g, {2, -3});
     }},
    {"dimensions that overflow", ErrorCode::shape,
     [](Graph& g) {
       leaf(g, {huge, huge});
     }},
    {"a second unary input without order", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Relu, {{2}, {2}});
     }},
    {"a factor of another shape", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Tanh, {{2}, {1}}, with([](Attributes& a) { a.order = 1; }));
     }},
    {"a third derivative", ErrorCode::unsupported,
     [](Graph& g) {
       append(g, Op::Tanh, {{2}, {2}}, with([](Attributes& a) { a.order = 3; }));
     }},
    {"shapes that do not broadcast", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Mul, {{2, 3}, {2}});
     }},
    {"a product whose shape overflows", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Add, {{huge / 32, 1}, {1, huge / 32}});
     }},
    {"MatMul of a vector", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MatMul, {{3}, {3, 2}});
     }},
    {"MatMul of other inner sizes", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MatMul, {{2, 3}, {2, 3}});
     }},
    {"MatMul of batches that do not broadcast", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MatMul, {{2, 2, 3}, {3, 3, 2}});
     }},
    {"Conv of rank 3", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5}, {4, 3, 3}});
     }},
    {"Conv of other channels", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5, 5}, {4, 2, 3, 3}});
     }},
    {"Conv of groups that overflow", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 4, 5, 5}, {4, 4, 3, 3}}, with([](Attributes& a) { a.group = huge / 2 + 1; }));
     }},
    {"Conv of no group", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 4, 5, 5}, {4, 4, 3, 3}}, with([](Attributes& a) { a.group = 0; }));
     }},
    {"Conv whose kernel does not fit", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 2, 5}, {4, 3, 3, 3}});
     }},
    {"Conv of stride 0", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5, 5}, {4, 3, 3, 3}}, window({}, {0, 1}));
     }},
    {"Conv of pads that overflow", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5, 5}, {4, 3, 3, 3}}, window({}, {}, {huge, 0, huge, 0}));
     }},
    {"Conv of dilations that overflow", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5, 5}, {4, 3, 3, 3}}, window({}, {}, {}, {huge, 1}));
     }},
    {"Conv of three pads", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Conv, {{2, 3, 5, 5}, {4, 3, 3, 3}}, window({}, {}, {1, 1, 1}));
     }},
    {"ConvInputGradient of another image", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::ConvInputGradient, {{2, 4, 3, 3}, {4, 3, 3, 3}}, to_dims({2, 3, 6, 5}));
     }},
    {"ConvWeightGradient of another kernel", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::ConvWeightGradient, {{2, 3, 5, 5}, {2, 4, 3, 3}}, to_dims({4, 3, 2, 3}));
     }},
    {"squares of other row counts", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::LinearGradientSquares, {{2, 3, 4}, {2, 2, 4}});
     }},
    {"Reshape to other sizes", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Reshape, {{2, 3}}, to_dims({4}));
     }},
    {"Reshape to negative sizes", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Reshape, {{2, 3}}, to_dims({-2, -3}));
     }},
    {"Transpose by half a permutation", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Transpose, {{2, 3}}, with([](Attributes& a) { a.perm = {1}; }));
     }},
    {"Transpose by a repeated axis", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Transpose, {{2, 3}}, with([](Attributes& a) { a.perm = {1, 1}; }));
     }},
    {"Expand to fewer", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Expand, {{2, 3}}, to_dims({1, 3}));
     }},
    {"Expand to what overflows", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Expand, {{1, 1}}, to_dims({huge, huge}));
     }},
    {"Concat along no axis", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Concat, {{2, 3}, {2, 3}}, along(-1));
     }},
    {"Concat of nothing", ErrorCode::shape, [](Graph& g) { g.append(Op::Concat, {}); }},
    {"Concat of other sizes", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Concat, {{2, 3}, {3, 2}}, along(1));
     }},
    {"Concat that overflows", ErrorCode::shape,
     [](Graph& g) {
       const ValueId x = leaf(g, {huge / 16});
       g.append(Op::Concat, std::vector<ValueId>(40, x));
     }},
    {"Slice past the end", ErrorCode::shape, [](Graph& g) { append(g, Op::Slice, {{5}}, slice({2}, {1}, {4})); }},
    {"Slice before the start", ErrorCode::shape, [](Graph& g) { append(g, Op::Slice, {{5}}, slice({3}, {-2}, {3})); }},
    {"Slice of step 0", ErrorCode::shape, [](Graph& g) { append(g, Op::Slice, {{5}}, slice({0}, {0}, {1})); }},
    {"Slice of nothing", ErrorCode::shape, [](Graph& g) { append(g, Op::Slice, {{5}}, slice({0}, {1}, {0})); }},
    {"Slice of steps that overflow", ErrorCode::shape,
     [](Graph& g) { append(g, Op::Slice, {{5}}, slice({0}, {huge}, {huge})); }},
    {"Slice of the most negative step", ErrorCode::shape,
     [](Graph& g) { append(g, Op::Slice, {{5}}, slice({0}, {-huge - 1}, {3})); }},
    {"Slice of fewer axes", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::Slice, {{5, 2}}, slice({0}, {1}, {2}));
     }},
    {"Unslice of another part", ErrorCode::shape,
     [](Graph& g) { append(g, Op::Unslice, {{4}}, slice({2}, {1}, {5})); }},
    {"Gather past the end", ErrorCode::shape, [](Graph& g) { append(g, Op::Gather, {{5}}, along(0, {5})); }},
    {"Gather of a negative index", ErrorCode::shape, [](Graph& g) { append(g, Op::Gather, {{5}}, along(0, {-1})); }},
    {"Gather of nothing", ErrorCode::shape, [](Graph& g) { append(g, Op::Gather, {{5}}, along(0, {})); }},
    {"Gather along no axis", ErrorCode::shape, [](Graph& g) { append(g, Op::Gather, {{5}}, along(1, {0})); }},
    {"ReduceSum along no axis", ErrorCode::shape,
     [](Graph& g) { append(g, Op::ReduceSum, {{5}}, with([](Attributes& a) { a.axes = {1}; })); }},
    {"ReduceMax along no axis", ErrorCode::shape, [](Graph& g) { append(g, Op::ReduceMax, {{5}}, along(-1)); }},
    {"Softmax along no axis", ErrorCode::shape, [](Graph& g) { append(g, Op::Softmax, {{5}}, along(1)); }},
    {"MaxPool of rank 3", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MaxPool, {{2, 3, 5}}, window({2, 2}));
     }},
    {"MaxPool without a kernel", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MaxPool, {{2, 3, 5, 5}});
     }},
    {"MaxPool of a first window of pads", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MaxPool, {{2, 3, 5, 5}}, window({2, 2}, {}, {2, 0, 0, 0}));
     }},
    {"MaxPool of a last window of pads", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MaxPool, {{2, 3, 5, 5}}, window({2, 2}, {}, {0, 0, 0, 2}));
     }},
    {"MaxPool whose taps miss the image", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::MaxPool, {{1, 1, 2, 2}}, window({2, 1}, {}, {1, 0, 3, 0}, {3, 1}));
     }},
    {"BatchNormalizationTraining of one row", ErrorCode::shape,
     [](Graph& g) {
       append(g, Op::BatchNormalizationTraining, {{1, 3}});
     }},
    {"values for positions", ErrorCode::model_format,
     [](Graph& g) {
       append(g, Op::TakeAlongAxis, {{2, 3}, {2, 1}}, along(1));
     }},
    {"positions for values", ErrorCode::model_format,
     [](Graph& g) {
       g.append(Op::Relu, {g.sibling(g.append(Op::ReduceMax, {leaf(g, {2, 3})}, along(1)), 1)});
     }},
    {"positions of another extent", ErrorCode::shape,
     [](Graph& g) {
       const ValueId index = g.sibling(g.append(Op::ReduceMax, {leaf(g, {2, 9})}, along(1)), 1);
       g.append(Op::TakeAlongAxis, {leaf(g, {2, 3}), index}, along(1));
     }},
    {"positions of another image", ErrorCode::shape,
     [](Graph& g) {
       const ValueId index = g.sibling(g.append(Op::MaxPool, {leaf(g, {1, 1, 8, 8})}, window({2, 2}, {2, 2})), 1);
       g.append(Op::PoolGather, {leaf(g, {1, 1, 4, 4}), index}, window({1, 1}));
     }},
};

}  // namespace

SWEEP(rules_refuse) {
  for (const Refusal& refusal : refusals) {
    add_test(std::string("rules refuse ") + refusal.name, [&refusal] {
      Graph graph(1);
      CHECK_THROWS(refusal.code, refusal.build(graph));
    });
  }
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
