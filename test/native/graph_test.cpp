// Schedules, plans and programs on adversarial graphs: legality, memory, hold and apply, accumulation, aliases.
#include <algorithm>

#include "check.h"
#include "graph/derivative.h"
#include "interpreter.h"
#include "ops/table.h"
#include "plan_runner.h"
#include "random_graphs.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

constexpr int random_graphs = 120;

ProgramDescription describe(const RandomGraph& random, bool holdable = false) {
  ProgramDescription description{random.graph, {}, holdable};
  for (ValueId id : random.outputs) description.outputs.push_back({id, -1});
  return description;
}

// Each live node once, each pass after what it reads; elementwise passes of one shape, of at most 24 nodes.
void check_schedule(const Graph& graph, const std::vector<ValueId>& outputs, bool fuse) {
  std::vector<int> ran(static_cast<size_t>(graph.node_count()), -1);
  const std::vector<Pass> passes = schedule(graph, outputs, fuse);
  for (size_t p = 0; p < passes.size(); ++p) {
    const Pass& pass = passes[p];
    CHECK(!pass.nodes.empty() && (pass.elementwise || pass.nodes.size() == 1) && pass.nodes.size() <= 24);
    for (int32_t n : pass.nodes) {
      const Node& node = graph.node(n);
      for (ValueId in : node.inputs) {
        if (graph.value(in).source == Source::computed) CHECK(ran[static_cast<size_t>(graph.value(in).node)] >= 0);
      }
      CHECK(ran[static_cast<size_t>(n)] < 0);
      ran[static_cast<size_t>(n)] = static_cast<int>(p);
      CHECK(is_elementwise(node.op) == pass.elementwise);
      CHECK(graph.dims(node.outputs[0]) == graph.dims(graph.node(pass.nodes[0]).outputs[0]));
    }
  }
  for (ValueId id : outputs) {
    if (graph.value(id).source == Source::computed) CHECK(ran[static_cast<size_t>(graph.value(id).node)] >= 0);
  }
}

// Equal to the last bit.
bool same(const std::vector<Values>& a, const std::vector<Values>& b) { return a == b; }

double farthest(const std::vector<Values>& a, const std::vector<Values>& b) {
  double most = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) most = std::max(most, distance(a[i], b[i]));
  return most;
}

// A program with room for its rows.
class Rows {
 public:
  Rows(const RandomGraph& random, bool holdable)
      : program_(describe(random, holdable), random.network, tested_backend(), DType::f64), random_(random) {}

  Bindings bind(Bound& bound) {
    Bindings bindings = bound.bindings;
    rows_.clear();
    for (ValueId id : random_.outputs) {
      rows_.push_back(
          std::make_unique<DeviceValues>(static_cast<size_t>(element_count(random_.graph.dims(id))), DType::f64));
      bindings.rows.push_back(rows_.back()->data());
    }
    return bindings;
  }
  std::vector<Values> read() const {
    std::vector<Values> values;
    for (const auto& row : rows_) values.push_back(row->read());
    return values;
  }
  Program& program() { return program_; }

 private:
  Program program_;
  const RandomGraph& random_;
  std::vector<std::unique_ptr<DeviceValues>> rows_;
};

void check_random_graph(uint64_t seed, bool windows) {
  const RandomGraph random = random_graph(seed, windows, seed % 2 == 0);
  const std::vector<Values> all = interpret(random.graph, random.point);
  std::vector<Values> expected;
  for (ValueId id : random.outputs) expected.push_back(all[static_cast<size_t>(id)]);
  const std::vector<Values> ran = run_graph(random.graph, random.network, random.outputs, random.point);
  CHECK(farthest(ran, expected) <= 1e-12);
  std::vector<std::vector<Values>> by_plan;
  for (bool fuse : {true, false}) {
    check_schedule(random.graph, random.outputs, fuse);
    const ProgramDescription description = describe(random);
    const Plan plan = make_plan(description, DType::f64, fuse);
    CHECK(memory_fault(plan, false) == "");
    by_plan.push_back(run_plan(description, plan, random.network, random.point));
  }
  CHECK(same(ran, by_plan[0]));
  // Other steps may leave a value in another layout, whose sums run in another order.
  if (windows) CHECK(farthest(by_plan[0], by_plan[1]) <= 1e-13);
  else CHECK(same(by_plan[0], by_plan[1]));
}

void check_hold_and_apply(uint64_t seed, bool windows) {
  const RandomGraph random = random_graph(seed, windows, true);
  for (bool fuse : {true, false}) CHECK(memory_fault(make_plan(describe(random, true), DType::f64, fuse), true) == "");
  Rows held(random, true);
  Bound at_start(random.network, random.point, DType::f64);
  for (int round = 0; round < 2; ++round) {
    held.program().hold(held.bind(at_start));
    for (uint64_t other = 0; other < 3; ++other) {
      Point point = random.point;
      point.tangents = random_tangents(random, seed + 1000 * other);
      Bound bound(random.network, point, DType::f64);
      Bindings bindings = held.bind(bound);
      bindings.parameters = nullptr;  // apply reads what hold was given
      held.program().apply(bindings);
      CHECK(same(held.read(), run_graph(random.graph, random.network, random.outputs, point)));
    }
  }
}

// One program holds several batches, each with parameters of its own, and applies to them in any order.
void check_several_held(uint64_t seed) {
  const RandomGraph random = random_graph(seed, seed % 2 == 1, true);
  Rows rows(random, true);
  struct Batch {
    Point point;
    std::unique_ptr<Bound> bound;
    std::shared_ptr<Program::Held> held;
  };
  std::vector<Batch> batches(3);
  for (size_t i = 0; i < batches.size(); ++i) {
    Batch& batch = batches[i];
    batch.point = random.point;
    for (Values& values : batch.point.parameters) {
      for (double& value : values) value *= 1 + 0.25 * static_cast<double>(i);
    }
    batch.bound = std::make_unique<Bound>(random.network, batch.point, DType::f64);
    batch.held = rows.program().make_held();
    CHECK_THROWS(ErrorCode::internal, rows.program().apply(rows.bind(*batch.bound), *batch.held));
    rows.program().hold(rows.bind(*batch.bound), *batch.held);
  }
  for (size_t i : {2, 0, 1, 2}) {
    Bindings bindings = rows.bind(*batches[i].bound);
    bindings.parameters = nullptr;
    rows.program().apply(bindings, *batches[i].held);
    CHECK(same(rows.read(), run_graph(random.graph, random.network, random.outputs, batches[i].point)));
  }
}

// <y_bar, jvp(x_dot)> = <vjp(y_bar), x_dot> over whole graphs with shared values.
void check_adjointness(uint64_t seed) {
  const RandomGraph random = random_graph(seed, seed % 2 == 1, false);
  Graph graph = random.graph;
  std::vector<std::pair<ValueId, ValueId>> dots, bars;
  for (size_t i = 0; i < random.parameters.size(); ++i) {
    dots.emplace_back(random.parameters[i],
                      graph.add_tangent(static_cast<int32_t>(i), graph.dims(random.parameters[i])));
  }
  const std::vector<ValueId> tangents = linearise(graph, dots);
  Point point = random.point;
  point.tangents = random_tangents(random, seed);
  std::vector<Dims> leaves;
  for (ValueId id : random.parameters) leaves.push_back(graph.dims(id));
  std::vector<ValueId> wanted = random.parameters, outputs;
  for (ValueId id : random.outputs) {
    bars.emplace_back(id, graph.add_parameter(static_cast<int32_t>(leaves.size()), graph.dims(id)));
    leaves.push_back(graph.dims(id));
    point.parameters.push_back(draw_normal(static_cast<size_t>(element_count(graph.dims(id))), seed + leaves.size()));
    outputs.push_back(tangents[static_cast<size_t>(id)]);
  }
  const std::vector<ValueId> pulled = transpose(graph, bars, wanted);
  outputs.insert(outputs.end(), pulled.begin(), pulled.end());
  const std::vector<Values> values = run_graph(graph, holder(leaves), outputs, point);
  double pushed = 0, pulled_back = 0, scale = 0;
  for (size_t i = 0; i < bars.size(); ++i) {
    if (values[i].empty()) continue;
    pushed += inner(values[i], point.parameters[random.parameters.size() + i]);
    scale += norm(values[i]) * norm(point.parameters[random.parameters.size() + i]);
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!values[bars.size() + i].empty()) pulled_back += inner(values[bars.size() + i], point.tangents[i]);
  }
  CHECK_NEAR(pushed, pulled_back, 1e-12 * scale);
  if (!(std::abs(pushed) > 1e-9 * scale)) mistrust("the products of the adjointness check are all but zero");
}

}  // namespace

TEST(random_graphs_run_as_interpreted) {
  for (uint64_t seed = 0; seed < random_graphs; ++seed) check_random_graph(seed, false);
}

TEST(random_graphs_with_images_run_as_interpreted) {
  for (uint64_t seed = 0; seed < random_graphs; ++seed) check_random_graph(seed, true);
}

TEST(random_graphs_hold_and_apply) {
  for (uint64_t seed = 0; seed < random_graphs; ++seed) check_hold_and_apply(seed, seed % 2 == 1);
  for (uint64_t seed = 0; seed < random_graphs; ++seed) check_several_held(seed);
}

TEST(random_graphs_are_adjoint) {
  for (uint64_t seed = 0; seed < random_graphs; ++seed) check_adjointness(seed);
}

TEST(random_graphs_are_telling) {
  size_t fused = 0, alone = 0, reorders = 0, primal = 0, tangent = 0, views = 0, epilogues = 0;
  for (uint64_t seed = 0; seed < random_graphs; ++seed) {
    const RandomGraph random = random_graph(seed, seed % 2 == 1, true);
    const Plan plan = make_plan(describe(random), DType::f64, true);
    fused += plan.steps.size();
    alone += make_plan(describe(random), DType::f64, false).steps.size();
    for (const Step& step : plan.steps) {
      reorders += step.elementwise && step.program.instructions.empty();
      (step.tangent ? tangent : primal) += 1;
      epilogues += step.epilogue > 0;
    }
    for (size_t i = 0; i < plan.buffers.size(); ++i) views += plan.buffers[i].root != static_cast<int32_t>(i);
  }
  CHECK(epilogues > random_graphs / 8);
  CHECK(fused + 2 * random_graphs < alone);
  CHECK(reorders > random_graphs / 2 && primal > 4 * random_graphs && tangent > 4 * random_graphs &&
        views > random_graphs);
}

namespace {

bool in_one_step(const Plan& plan, int32_t a, int32_t b) {
  return std::any_of(plan.steps.begin(), plan.steps.end(), [&](const Step& step) {
    bool with_a = false, with_b = false;
    for (const std::vector<int32_t>* list : {&step.inputs, &step.outputs}) {
      for (int32_t buffer : *list) {
        with_a = with_a || plan.buffers[static_cast<size_t>(buffer)].root == a;
        with_b = with_b || plan.buffers[static_cast<size_t>(buffer)].root == b;
      }
    }
    return with_a && with_b;
  });
}

// Puts a buffer and another one that waits to be read in one place; false where the plan has no such pair.
bool spoil(Plan& plan) {
  const std::vector<Lifetime> lives = lifetimes(plan);
  for (const Lifetime& waiting : lives) {
    for (const Lifetime& comes : lives) {
      const bool meanwhile = waiting.first < comes.first && comes.first < waiting.last;
      if (!meanwhile || in_one_step(plan, waiting.root, comes.root)) continue;
      // Both in new memory, so that nothing else is hit.
      Buffer &a = plan.buffers[static_cast<size_t>(waiting.root)], &b = plan.buffers[static_cast<size_t>(comes.root)];
      a.offset = b.offset = plan.arena_bytes;
      plan.arena_bytes += std::max(a.bytes, b.bytes);
      return true;
    }
  }
  return false;
}

}  // namespace

// The checks above see what they should: a plan that is spoilt fails both.
TEST(memory_checks_can_fail) {
  int spoilt = 0, seen = 0, felt = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const RandomGraph random = random_graph(seed, seed % 2 == 1, false);
    const ProgramDescription description = describe(random);
    Plan plan = make_plan(description, DType::f64, false);
    const std::vector<Values> good = run_plan(description, plan, random.network, random.point);
    if (!spoil(plan)) continue;
    ++spoilt;
    seen += memory_fault(plan, false) != "";
    felt += !same(run_plan(description, plan, random.network, random.point), good);
  }
  CHECK(spoilt > 40);
  CHECK(seen == spoilt);
  CHECK(10 * felt > 9 * spoilt);  // now and then the part that is lost is one that a slice leaves out
}

namespace {

ValueId unary(Graph& graph, Op op, ValueId x) { return graph.append(op, {x}); }

ValueId row_sum(Graph& graph, ValueId x) {
  Attributes attributes;
  attributes.axes = {1};
  return graph.append(Op::ReduceSum, {x}, attributes);
}

std::vector<std::vector<Op>> fused(const Graph& graph, const std::vector<ValueId>& outputs) {
  std::vector<std::vector<Op>> passes;
  for (const Pass& pass : schedule(graph, outputs, true)) {
    passes.emplace_back();
    for (int32_t node : pass.nodes) passes.back().push_back(graph.node(node).op);
  }
  return passes;
}

using Passes = std::vector<std::vector<Op>>;

}  // namespace

TEST(chains_are_one_pass) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4}), b = graph.add_parameter(1, {4});
  const ValueId y = unary(graph, Op::Tanh, graph.add(unary(graph, Op::Exp, x), b));
  CHECK(fused(graph, {y}) == Passes{{Op::Exp, Op::Add, Op::Tanh}});
  ValueId z = x;
  for (int i = 0; i < 60; ++i) z = unary(graph, Op::Sigmoid, z);
  const Passes passes = fused(graph, {z});
  CHECK(passes.size() == 3);
}

// a is read by the sum, which b waits for: a cannot be put off until b runs.
TEST(a_pass_does_not_swallow_what_is_read_in_between) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4});
  const ValueId a = unary(graph, Op::Exp, x);
  const ValueId b = graph.mul(a, row_sum(graph, a));
  CHECK(fused(graph, {b}) == Passes{{Op::Exp}, {Op::ReduceSum}, {Op::Mul}});
  // A second producer that nothing else waits for still joins.
  const ValueId c = graph.add(b, unary(graph, Op::Tanh, x));
  CHECK(fused(graph, {c}) == Passes{{Op::Exp}, {Op::ReduceSum}, {Op::Tanh, Op::Mul, Op::Add}});
}

// A joined pass runs where its last node stands, and its readers are judged by that place.
TEST(a_pass_waits_for_its_last_node) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4});
  const ValueId a = unary(graph, Op::Exp, x);
  const ValueId late = unary(graph, Op::Tanh, graph.expand(row_sum(graph, row_sum(graph, x)), {3, 4}));
  const ValueId joined = graph.add(a, late);                         // pulls a to a late place
  const ValueId other = graph.mul(unary(graph, Op::Sigmoid, a), x);  // reads a: must come after, or with it
  check_schedule(graph, {joined, other}, true);
  check_schedule(graph, {other, joined, a}, true);
}

TEST(tangents_do_not_join_primals) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4}), x_dot = graph.add_tangent(0, {3, 4});
  const ValueId y = graph.mul(unary(graph, Op::Exp, x), x_dot);
  CHECK(fused(graph, {y}) == Passes{{Op::Exp}, {Op::Mul}});
}

TEST(broadcast_results_do_not_join) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4}), b = graph.add_parameter(1, {4});
  CHECK(fused(graph, {graph.add(x, unary(graph, Op::Exp, b))}) == Passes{{Op::Exp}, {Op::Add}});
}

TEST(what_no_running_node_reads_is_not_stored) {
  Graph graph(1);
  const ValueId x = graph.add_parameter(0, {3, 4});
  const ValueId a = unary(graph, Op::Exp, x);
  row_sum(graph, a);  // nothing asks for it
  const ValueId y = unary(graph, Op::Tanh, a);
  const Plan plan = make_plan({graph, {{y, -1}}, false}, DType::f64);
  CHECK(plan.steps.size() == 1 && plan.steps[0].outputs.size() == 1);
  const Plan both = make_plan({graph, {{y, -1}, {a, -1}}, false}, DType::f64);
  CHECK(both.steps.size() == 1 && both.steps[0].outputs.size() == 2);
}

TEST(memory_of_a_chain_is_reused) {
  Graph graph(1);
  ValueId z = graph.add_parameter(0, {30, 40});
  Attributes transpose;
  transpose.perm = {1, 0};
  for (int i = 0; i < 12; ++i) z = graph.append(Op::Transpose, {unary(graph, Op::Sigmoid, z)}, transpose);
  const Plan plan = make_plan({graph, {{z, -1}}, false}, DType::f64);
  CHECK(memory_fault(plan, false) == "");
  CHECK(plan.arena_bytes == 2 * 9600);
}

}  // namespace palimpsest::check
