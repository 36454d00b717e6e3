// Per-example squares by the quick rules against a loop of single-example gradients, squared.
#include "check.h"
#include "graph/derivative.h"
#include "ops/table.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

constexpr int64_t batch = 3;

// A function of the examples x [3, ...] and parameters; its result has one row an example.
struct SquareSample {
  std::string name;
  Dims x;  // of one example
  std::vector<Dims> parameters;
  std::function<ValueId(Graph&, ValueId x, std::span<const ValueId> p)> build;
  std::vector<bool> quick = {};  // which parameters have a quick rule; empty: all
};

template <class Set>
Attributes with(Set set) {
  Attributes attributes;
  set(attributes);
  return attributes;
}

ValueId matmul(Graph& g, ValueId a, ValueId b, bool trans_a = false, bool trans_b = false, double alpha = 1) {
  return g.append(Op::MatMul, {a, b},
                  with([&](Attributes& at) { at.trans_a = trans_a, at.trans_b = trans_b, at.alpha = alpha; }));
}
ValueId tanh(Graph& g, ValueId x) { return g.append(Op::Tanh, {x}); }
ValueId slice(Graph& g, ValueId x, Dims starts, Dims dims) {
  return g.append(Op::Slice, {x}, with([&](Attributes& at) {
                    at.steps = Dims(starts.size(), 1), at.starts = std::move(starts), at.dims = std::move(dims);
                  }));
}
ValueId conv(Graph& g, ValueId x, ValueId w, Dims strides = {}, Dims pads = {}, int64_t group = 1,
             Dims dilations = {}) {
  return g.append(Op::Conv, {x, w}, with([&](Attributes& at) {
                    at.strides = std::move(strides), at.pads = std::move(pads), at.group = group;
                    at.dilations = std::move(dilations);
                  }));
}
ValueId flat(Graph& g, ValueId x) { return g.reshape(x, {batch, element_count(g.dims(x)) / batch}); }
ValueId sub(Graph& g, ValueId a, ValueId b) { return g.append(Op::Sub, {a, b}); }
ValueId div(Graph& g, ValueId a, ValueId b) { return g.append(Op::Div, {a, b}); }
ValueId shifted(Graph& g, ValueId x, double beta) {
  return g.append(Op::Affine, {x}, with([&](Attributes& at) { at.beta = beta; }));
}

using P = std::span<const ValueId>;

void add_linear(std::vector<SquareSample>& list) {
  list.push_back({"a weight", {4}, {{4, 5}}, [](Graph& g, ValueId x, P p) { return tanh(g, matmul(g, x, p[0])); }});
  list.push_back({"a weight as [O, I], scaled", {4}, {{5, 4}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, p[0], false, true, -0.3));
                  }});
  list.push_back({"two layers with biases", {4}, {{4, 6}, {6}, {6, 5}, {1, 5}}, [](Graph& g, ValueId x, P p) {
                    const ValueId h = tanh(g, g.add(matmul(g, x, p[0]), p[1]));
                    return g.add(matmul(g, h, p[2]), p[3]);
                  }});
  list.push_back({"tokens", {7, 4}, {{4, 5}, {5}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.add(matmul(g, x, p[0]), p[1]));
                  }});
  list.push_back({"tokens, [O, I]", {7, 4}, {{5, 4}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, p[0], false, true));
                  }});
  list.push_back({"tokens as rows", {7, 4}, {{4, 5}, {5}}, [](Graph& g, ValueId x, P p) {
                    const ValueId rows = g.add(matmul(g, g.reshape(x, {batch * 7, 4}), p[0]), p[1]);
                    return tanh(g, g.reshape(rows, {batch, 7, 5}));
                  }});
  list.push_back({"tokens before examples", {7, 4}, {{4, 5}, {5}, {7, 1, 5}}, [](Graph& g, ValueId x, P p) {
                    const ValueId y = g.add(matmul(g, g.transpose(x, {1, 0, 2}), p[0]), p[1]);
                    return tanh(g, g.transpose(g.mul(y, p[2]), {1, 0, 2}));
                  }});
  list.push_back(
      {"heads and tokens", {2, 5, 4}, {{4, 3}}, [](Graph& g, ValueId x, P p) { return tanh(g, matmul(g, x, p[0])); }});
  list.push_back({"tokens before examples as rows",
                  {7, 4},
                  {{4, 5}, {5}},
                  [](Graph& g, ValueId x, P p) {
                    const ValueId rows = g.reshape(g.transpose(x, {1, 0, 2}), {7 * batch, 4});
                    const ValueId y = g.add(matmul(g, rows, p[0]), p[1]);
                    return tanh(g, g.transpose(g.reshape(y, {7, batch, 5}), {1, 0, 2}));
                  },
                  {false, false}});
  list.push_back({"heads before tokens as rows",
                  {2, 5, 4},
                  {{4, 3}},
                  [](Graph& g, ValueId x, P p) {
                    const ValueId rows = g.reshape(g.transpose(x, {1, 0, 2, 3}), {2, batch * 5, 4});
                    const ValueId y = g.reshape(matmul(g, rows, p[0]), {2, batch, 5, 3});
                    return tanh(g, g.transpose(y, {1, 0, 2, 3}));
                  },
                  {false}});
  list.push_back({"a weight per head",
                  {2, 5, 4},
                  {{2, 4, 3}},
                  [](Graph& g, ValueId x, P p) { return matmul(g, x, p[0]); },
                  {false}});
  list.push_back(
      {"a weight on the left", {4, 5}, {{3, 4}}, [](Graph& g, ValueId x, P p) { return matmul(g, p[0], x); }, {false}});
}

void add_through(std::vector<SquareSample>& list) {
  list.push_back({"a transposed weight", {4}, {{5, 4}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, g.transpose(p[0], {1, 0})));
                  }});
  list.push_back({"a reshaped weight", {4}, {{2, 2, 5}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, g.reshape(p[0], {4, 5})));
                  }});
  list.push_back({"a sliced weight", {4}, {{5, 6}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, slice(g, p[0], {1, 1}, {4, 5})));
                  }});
  list.push_back({"a weight with factor and divisor",
                  {4},
                  {{4, 5}, {4, 5}},
                  [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, div(g, g.scale(p[0], -0.7), shifted(g, g.mul(p[1], p[1]), 1))));
                  },
                  {true, false}});
  list.push_back({"a weight times a scale per output",
                  {4},
                  {{4, 5}, {5}},
                  [](Graph& g, ValueId x, P p) { return tanh(g, matmul(g, x, g.mul(p[0], p[1]))); },
                  {true, false}});
  list.push_back({"a weight times a weight", {4}, {{4, 5}, {4, 5}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, matmul(g, x, g.mul(p[0], p[1])));
                  }});
  list.push_back({"a kernel, permuted and scaled", {3, 5, 6}, {{3, 3, 4, 3}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, conv(g, x, g.scale(g.transpose(p[0], {2, 0, 1, 3}), 1.5)));
                  }});
  list.push_back({"a squared weight",
                  {4},
                  {{4, 5}},
                  [](Graph& g, ValueId x, P p) { return matmul(g, x, g.mul(p[0], p[0])); },
                  {false}});
  list.push_back({"a weight through tanh",
                  {4},
                  {{4, 5}},
                  [](Graph& g, ValueId x, P p) { return matmul(g, x, tanh(g, p[0])); },
                  {false}});
  list.push_back({"a weight used twice",
                  {4},
                  {{4, 4}},
                  [](Graph& g, ValueId x, P p) { return matmul(g, tanh(g, matmul(g, x, p[0])), p[0]); },
                  {false}});
  list.push_back(
      {"a weight and its transpose",
       {4},
       {{4, 5}, {5}},
       [](Graph& g, ValueId x, P p) { return matmul(g, g.add(tanh(g, matmul(g, x, p[0])), p[1]), p[0], false, true); },
       {false, true}});
  list.push_back({"a weight whose other use is dead", {4}, {{4, 5}}, [](Graph& g, ValueId x, P p) {
                    tanh(g, p[0]);
                    return tanh(g, matmul(g, x, p[0]));
                  }});
  list.push_back({"a parameter without use",
                  {4},
                  {{4, 5}, {3}},
                  [](Graph& g, ValueId x, P p) { return matmul(g, x, p[0]); },
                  {true, false}});
}

void add_broadcast(std::vector<SquareSample>& list) {
  list.push_back({"a bias per channel", {3, 4, 5}, {{3, 1, 1}, {1, 3, 1, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.mul(g.add(x, p[0]), p[1]));
                  }});
  list.push_back({"a row for each example",
                  {4},
                  {{batch, 4}, {4}},
                  [](Graph& g, ValueId x, P p) { return tanh(g, g.add(g.mul(x, p[0]), p[1])); },
                  {false, true}});
  list.push_back({"a position embedding", {7, 4}, {{7, 4}, {1, 7, 4}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.add(tanh(g, g.add(x, p[0])), p[1]));
                  }});
  list.push_back({"one number for all", {7, 4}, {{}, {1}, {1, 1, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.add(g.mul(sub(g, x, p[0]), p[1]), p[2]));
                  }});
  list.push_back({"a subtracted and a subtracting bias", {7, 4}, {{4}, {7, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, sub(g, p[1], sub(g, x, p[0])));
                  }});
  list.push_back({"a divisor and a dividend", {7, 4}, {{4}, {7, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, div(g, p[1], shifted(g, tanh(g, div(g, x, p[0])), 3)));
                  }});
  list.push_back({"a scale that widens the examples", {7, 1}, {{4}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.mul(x, p[0]));
                  }});
  list.push_back({"a bias that widens the examples", {1, 4}, {{7, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.add(x, p[0]));
                  }});
  list.push_back({"a divisor that widens the examples", {1, 4}, {{7, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, div(g, x, p[0]));
                  }});
  list.push_back({"a dividend that widens the examples", {1, 4}, {{7, 1}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, div(g, p[0], shifted(g, tanh(g, x), 2)));
                  }});
  list.push_back({"scale and bias of rows", {7, 4}, {{4}, {1, 1}}, [](Graph& g, ValueId x, P p) {
                    const ValueId rows = g.reshape(x, {batch * 7, 4});
                    return tanh(g, g.reshape(g.add(g.mul(rows, p[0]), p[1]), {batch, 7, 4}));
                  }});
  list.push_back({"a scale through a reshape", {3, 4, 5}, {{3}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, g.mul(x, g.reshape(p[0], {1, 3, 1, 1})));
                  }});
  list.push_back({"a gate of examples", {7, 4}, {{4}}, [](Graph& g, ValueId x, P p) {
                    const ValueId gate = g.append(Op::ReduceSum, {x}, with([](Attributes& at) { at.axes = {1, 2}; }));
                    return tanh(g, g.mul(g.mul(x, p[0]), gate));
                  }});
}

void add_convolutions(std::vector<SquareSample>& list) {
  list.push_back(
      {"a kernel", {3, 5, 6}, {{4, 3, 3, 3}}, [](Graph& g, ValueId x, P p) { return tanh(g, conv(g, x, p[0])); }});
  list.push_back({"a kernel with strides and pads", {3, 6, 7}, {{4, 3, 3, 2}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, conv(g, x, p[0], {2, 1}, {1, 0, 2, 1}));
                  }});
  list.push_back({"a kernel in groups", {4, 5, 6}, {{6, 2, 3, 3}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, conv(g, x, p[0], {}, {1, 1, 1, 1}, 2));
                  }});
  list.push_back({"a depthwise kernel", {5, 6, 5}, {{5, 1, 3, 3}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, conv(g, x, p[0], {2, 2}, {1, 1, 1, 1}, 5));
                  }});
  list.push_back({"a dilated kernel", {2, 7, 8}, {{3, 2, 2, 3}}, [](Graph& g, ValueId x, P p) {
                    return tanh(g, conv(g, x, p[0], {}, {0, 1, 1, 2}, 1, {2, 2}));
                  }});
  list.push_back(
      {"one position", {3, 1, 1}, {{4, 3, 1, 1}}, [](Graph& g, ValueId x, P p) { return tanh(g, conv(g, x, p[0])); }});
  list.push_back({"a small network", {2, 6, 5}, {{3, 2, 3, 3}, {3}, {4, 12}, {4}}, [](Graph& g, ValueId x, P p) {
                    const ValueId h = tanh(g, g.add(conv(g, x, p[0], {}, {1, 1, 1, 1}), g.reshape(p[1], {1, 3, 1, 1})));
                    Attributes pool;
                    pool.kernel = {3, 2}, pool.strides = {3, 2};
                    return g.add(matmul(g, flat(g, g.append(Op::MaxPool, {h}, pool)), p[2], false, true), p[3]);
                  }});
  list.push_back({"a kernel over several images an example",
                  {2, 3, 5, 6},
                  {{4, 3, 3, 3}},
                  [](Graph& g, ValueId x, P p) {
                    return tanh(g, flat(g, conv(g, g.reshape(x, {batch * 2, 3, 5, 6}), p[0])));
                  },
                  {false}});
  list.push_back({"a kernel over images before examples",
                  {2, 3, 5, 6},
                  {{4, 3, 3, 3}},
                  [](Graph& g, ValueId x, P p) {
                    const ValueId images = g.reshape(g.transpose(x, {1, 0, 2, 3, 4}), {2 * batch, 3, 5, 6});
                    const ValueId y = g.reshape(conv(g, images, p[0]), {2, batch, 48});
                    return tanh(g, g.transpose(y, {1, 0, 2}));
                  },
                  {false}});
  list.push_back({"a shared kernel",
                  {3, 5, 6},
                  {{3, 3, 3, 3}},
                  [](Graph& g, ValueId x, P p) {
                    return conv(g, tanh(g, conv(g, x, p[0], {}, {1, 1, 1, 1})), p[0]);
                  },
                  {false}});
}

class SquareTrial {
 public:
  explicit SquareTrial(const SquareSample& sample)
      : sample_(sample), graph_(batch), network_(holder(sample.parameters)) {
    Dims dims = {batch};
    dims.insert(dims.end(), sample.x.begin(), sample.x.end());
    const ValueId x = graph_.add_input(input_x, dims);
    at_.inputs[input_x] = draw_normal(static_cast<size_t>(element_count(dims)), seed_of(sample.name));
    for (size_t i = 0; i < sample.parameters.size(); ++i) {
      p_.push_back(graph_.add_parameter(static_cast<int32_t>(i), sample.parameters[i]));
      // Away from zero: some of them divide.
      at_.parameters.push_back(draw({sample.parameters[i], -1.5, 1.5, {0}, 0.4}, seed_of(sample.name) + 10 + i));
    }
    y_ = sample.build(graph_, x, p_);
    CHECK(graph_.value(y_).batch == BatchAxis{0, 1, 1});
    u_ = draw_normal(static_cast<size_t>(element_count(graph_.dims(y_))), seed_of(sample.name) + 1);
  }

  void run() {
    Graph graph = graph_;
    const ValueId cotangent = graph.add_input(input_cotangent, graph.dims(y_));
    const std::vector<ValueId> squares = square_gradients(graph, y_, cotangent, p_);
    for (size_t i = 0; i < p_.size(); ++i) {
      CHECK((squares[i] != none) == (sample_.quick.empty() || sample_.quick[i]));
      if (squares[i] != none) check_squares(graph, squares[i], i);
    }
  }

 private:
  // The gradient of parameter i with the cotangents of examples [first, last) alone.
  Values gradient(size_t i, int64_t first, int64_t last) const {
    Graph graph = graph_;
    const std::pair<ValueId, ValueId> seed = {y_, graph.add_input(input_cotangent, graph.dims(y_))};
    const ValueId bar = transpose(graph, {&seed, 1}, {&p_[i], 1})[0];
    Point at = at_;
    at.inputs[input_cotangent] = Values(u_.size(), 0.0);
    const auto row = u_.size() / static_cast<size_t>(batch);
    const auto begin = static_cast<size_t>(first) * row, end = static_cast<size_t>(last) * row;
    for (size_t k = begin; k < end; ++k) at.inputs[input_cotangent][k] = u_[k];
    return run_graph(graph, network_, {bar}, at)[0];
  }

  void check_squares(const Graph& graph, ValueId squares, size_t i) {
    CHECK(graph.dims(squares) == sample_.parameters[i]);
    Values expected(static_cast<size_t>(element_count(sample_.parameters[i])), 0.0), of_sum = expected;
    for (int64_t b = 0; b < batch; ++b) {
      const Values g = gradient(i, b, b + 1);
      for (size_t k = 0; k < g.size(); ++k) expected[k] += g[k] * g[k];
    }
    const Values whole = gradient(i, 0, batch);
    for (size_t k = 0; k < whole.size(); ++k) of_sum[k] = whole[k] * whole[k];
    Point at = at_;
    at.inputs[input_cotangent] = u_;
    const Values quick = run_graph(graph, network_, {squares}, at)[0];
    CHECK(distance(quick, expected) <= 1e-13);
    CHECK(distance(run_graph(graph, network_, {squares}, at, DType::f32)[0], expected) <= 1e-5);
    check_telling(quick.data(), quick.size(), "squares");
    CHECK_CAN_FAIL(distance(quick, of_sum) <= 1e-3);  // the square of the batch's sum is another thing
  }

  const SquareSample& sample_;
  Graph graph_;
  Network network_;
  std::vector<ValueId> p_;
  Point at_;
  ValueId y_ = none;
  Values u_;
};

const std::vector<SquareSample>& square_samples() {
  static const std::vector<SquareSample> all = [] {
    std::vector<SquareSample> list;
    add_linear(list);
    add_through(list);
    add_broadcast(list);
    add_convolutions(list);
    return list;
  }();
  return all;
}

}  // namespace

SWEEP(squares) {
  for (const SquareSample& sample : square_samples()) {
    add_test("squares of " + sample.name, [&sample] { SquareTrial(sample).run(); });
  }
}

// Every row that has a rule for squares, or lets them through, is exercised by a sample.
TEST(every_squares_rule_has_a_sample) {
  std::vector<bool> seen(static_cast<size_t>(Op::count_));
  for (const SquareSample& sample : square_samples()) {
    Graph graph(batch);
    Dims dims = {batch};
    dims.insert(dims.end(), sample.x.begin(), sample.x.end());
    const ValueId x = graph.add_input(input_x, dims);
    std::vector<ValueId> p;
    for (const Dims& d : sample.parameters) p.push_back(graph.add_parameter(0, d));
    sample.build(graph, x, p);
    for (int32_t i = 0; i < graph.node_count(); ++i) seen[static_cast<size_t>(graph.node(i).op)] = true;
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    const Row& row = row_of(static_cast<Op>(i));
    if (row.squares != nullptr || row.squares_through != nullptr) {
      check(seen[i], __FILE__, __LINE__, std::string("no sample of squares for row ") + row.name);
    }
  }
}

}  // namespace palimpsest::check
