// Programs: outputs that are each other or leaves, accumulation, absent derivatives, constants, what is refused.
#include <algorithm>

#include "check.h"
#include "graph/derivative.h"
#include "graph_run.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

const std::vector<Dims> parameters = {{3, 4}, {4}, {5}};

struct Sums {
  Graph graph{1};
  Network network = holder(parameters);
  Point point;
  std::vector<ValueId> leaves, outputs;

  // Gradients of sum(tanh(a) * b): of parameters 0 and 1; parameter 2 has none.
  Sums() {
    for (size_t i = 0; i < parameters.size(); ++i) {
      leaves.push_back(graph.add_parameter(static_cast<int32_t>(i), parameters[i]));
      point.parameters.push_back(draw_normal(static_cast<size_t>(element_count(parameters[i])), i));
    }
    const ValueId y = graph.mul(graph.append(Op::Tanh, {leaves[0]}), leaves[1]);
    Attributes one;
    one.dims = graph.dims(y);
    const std::pair<ValueId, ValueId> seed = {y, graph.append(Op::ConstantOfShape, {}, one)};
    outputs = transpose(graph, {&seed, 1}, leaves);
  }

  ProgramDescription describe() const {
    ProgramDescription description{graph, {}, false};
    for (size_t i = 0; i < outputs.size(); ++i) description.outputs.push_back({outputs[i], static_cast<int32_t>(i)});
    return description;
  }
};

}  // namespace

TEST(sums_are_overwritten_or_added_to) {
  const Sums s;
  CHECK(s.outputs[0] != none && s.outputs[1] != none && s.outputs[2] == none);
  const std::vector<Values> expected = run_graph(s.graph, s.network, s.outputs, s.point);
  Program program(s.describe(), s.network, tested_backend(), DType::f64);
  Bound bound(s.network, s.point, DType::f64);
  const ParameterLayout& layout = s.network.layout();
  const Values before = draw_normal(static_cast<size_t>(layout.length()), 9);
  DeviceValues sums(before, DType::f64);
  bound.bindings.sums = sums.data();

  bound.bindings.accumulate = true;
  program.run(bound.bindings);
  program.run(bound.bindings);
  std::vector<Values> added = split(layout, sums.read()), start = split(layout, before);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(distance(difference(added[i], start[i], 0.5), expected[i]) <= 1e-14);
    check_telling(expected[i].data(), expected[i].size(), "gradient");
  }
  CHECK(added[2] == start[2]);  // nothing is added

  bound.bindings.accumulate = false;
  program.run(bound.bindings);
  const std::vector<Values> written = split(layout, sums.read());
  CHECK(written[0] == expected[0] && written[1] == expected[1]);
  CHECK(written[2] == Values(5, 0.0));  // a parameter without use has the gradient zero
}

TEST(padding_of_a_vector_is_left_alone) {
  const Sums s;
  Program program(s.describe(), s.network, tested_backend(), DType::f64);
  Bound bound(s.network, s.point, DType::f64);
  const auto length = static_cast<size_t>(s.network.layout().length());
  DeviceValues sums(Values(length, -7.0), DType::f64);
  bound.bindings.sums = sums.data();
  program.run(bound.bindings);
  const Values after = sums.read();
  CHECK(std::count(after.begin(), after.end(), -7.0) == static_cast<int64_t>(length) - 12 - 4 - 5);
}

// Rows that are the same value, a leaf, a view of another row, zero, or not wanted.
TEST(rows_may_be_anything) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4}), y = graph.append(Op::Tanh, {x});
  const std::vector<ValueId> outputs = {
      y, y, x, graph.reshape(y, {12}), graph.reshape(x, {4, 3}), none, graph.reshape(y, {2, 6})};
  const Network network = holder({{3, 4}});
  Point point;
  point.parameters = {draw_normal(12, 1)};
  ProgramDescription description{graph, {}, false};
  // An output that is none has no dimensions: it must be a parameter's.
  for (ValueId id : outputs) description.outputs.push_back({id, id == none ? 0 : -1});
  Program program(std::move(description), network, tested_backend(), DType::f64);
  Bound bound(network, point, DType::f64);
  std::vector<std::unique_ptr<DeviceValues>> rows;
  DeviceValues sums(static_cast<size_t>(network.layout().length()), DType::f64);
  bound.bindings.sums = sums.data();
  for (size_t i = 0; i < 6; ++i) {
    rows.push_back(std::make_unique<DeviceValues>(12, DType::f64));
    bound.bindings.rows.push_back(i == 3 ? nullptr : rows.back()->data());  // the fourth row is not wanted
  }
  program.run(bound.bindings);
  Values expected = point.parameters[0];
  for (double& v : expected) v = std::tanh(v);
  for (size_t i : {0, 1, 5}) CHECK(distance(rows[i]->read(), expected) <= 1e-15);
  for (size_t i : {2, 4}) CHECK(rows[i]->read() == point.parameters[0]);
  CHECK(std::isnan(rows[3]->read()[0]));
  CHECK(split(network.layout(), sums.read())[0] == Values(12, 0.0));
  // The first row not wanted: the others come all the same.
  bound.bindings.rows[0] = nullptr;
  rows[1] = std::make_unique<DeviceValues>(12, DType::f64);
  bound.bindings.rows[1] = rows[1]->data();
  program.run(bound.bindings);
  CHECK(distance(rows[1]->read(), expected) <= 1e-15);
}

TEST(constants_follow_the_network) {
  Network network = holder({{3}}, {{3}, {2}});
  Graph graph(1);
  const ValueId y = graph.mul(graph.add_parameter(0, {3}), graph.add_constant(0, {3}));
  Point point;
  point.parameters = {{1, 2, 3}};
  network.set_constant(0, {4, 5, 6});
  Program program({graph, {{y, -1}}, false}, network, tested_backend(), DType::f64);
  Bound bound(network, point, DType::f64);
  DeviceValues row(3, DType::f64);
  bound.bindings.rows = {row.data()};
  program.run(bound.bindings);
  CHECK(row.read() == Values{4, 10, 18});
  network.set_constant(0, {-1, 0.5, 0});  // the running statistics moved
  program.run(bound.bindings);
  CHECK(row.read() == Values{-1, 1, 0});
  CHECK_THROWS(ErrorCode::shape, network.set_constant(0, {1, 2}));
  CHECK_THROWS(ErrorCode::invalid_argument, network.set_constant(2, {1, 2}));
  CHECK_THROWS(ErrorCode::invalid_argument, network.set_constant(-1, {1, 2}));
}

TEST(programs_refuse_what_is_missing) {
  const Network network = holder({{3}});
  Graph graph(1);
  const ValueId x = graph.add_input(input_x, {2, 3});
  const ValueId y = graph.mul(x, graph.mul(graph.add_parameter(0, {3}), graph.add_tangent(0, {3})));
  Program program({graph, {{y, -1}}, false}, network, tested_backend(), DType::f64);
  Point point;
  point.parameters = {{1, 2, 3}};
  DeviceValues row(6, DType::f64);
  const auto run = [&](bool inputs, bool tangents) {
    Point at = point;
    if (inputs) at.inputs[input_x] = Values(6, 1.0);
    if (tangents) at.tangents = {{1, 1, 1}};
    Bound bound(network, at, DType::f64);
    bound.bindings.rows = {row.data()};
    program.run(bound.bindings);
  };
  CHECK_THROWS(ErrorCode::internal, run(false, true));
  CHECK_THROWS(ErrorCode::internal, run(true, false));
  run(true, true);
  CHECK(row.read() == Values{1, 2, 3, 1, 2, 3});
  CHECK_THROWS(ErrorCode::internal, Program({graph, {{none, -1}}, false}, network, tested_backend(), DType::f64));
  Graph maximum(1);
  const ValueId index = maximum.sibling(maximum.append(Op::ReduceMax, {maximum.add_parameter(0, {3})}), 1);
  CHECK_THROWS(ErrorCode::internal, Program({maximum, {{index, -1}}, false}, network, tested_backend(), DType::f64));
  CHECK_THROWS(ErrorCode::internal, program.hold({}));
  CHECK_THROWS(ErrorCode::internal, program.apply({}));
  Program holdable({graph, {{y, -1}}, true}, network, tested_backend(), DType::f64);
  CHECK_THROWS(ErrorCode::internal, holdable.apply({}));
}

TEST(planned_bytes_are_what_a_program_takes) {
  Network network = holder({{30, 40}}, {{7}});
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {30, 40});
  Attributes attributes;
  attributes.trans_b = true;
  const ValueId gram = graph.append(Op::MatMul, {x, x}, attributes);
  const ValueId y = graph.append(Op::MatMul, {gram, graph.append(Op::Tanh, {x})});
  const ProgramDescription description{graph, {{y, -1}}, false};
  for (DType dtype : {DType::f32, DType::f64}) {
    Program program(description, network, tested_backend(), dtype);
    CHECK(planned_bytes(description, network, dtype) == program.arena_bytes() + program.constant_bytes());
    CHECK(program.constant_bytes() == 16 * size_of(dtype));
    CHECK(program.arena_bytes() >= (900 + 1200) * size_of(dtype));
    CHECK(program.flops() == 2.0 * 30 * 30 * 40 * 2 + 1200);
    CHECK(program.step_count() == 3);
  }
}

}  // namespace palimpsest::check
