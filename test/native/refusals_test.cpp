// What rows refuse: operands and attributes that do not fit, sizes that overflow, positions that lead elsewhere.
#include <functional>
#include <limits>

#include "check.h"
#include "ops/table.h"

namespace palimpsest::check {

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

}  // namespace palimpsest::check
