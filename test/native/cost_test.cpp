// Costs: what rows say they compute and move, beside counts by hand; steps one by one; memory that is not there.
#include <algorithm>
#include <numeric>

#include "check.h"
#include "cpu/memory.h"
#include "graph/calibration.h"
#include "graph/forecast.h"
#include "graph_run.h"
#include "ops/table.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

Cost cost_of_row(const Graph& graph, ValueId id) {
  const Node& node = graph.node(graph.value(id).node);
  return row_of(node.op).cost(graph, node);
}

bool costs(const Cost& cost, double flops, double elements, double index_bytes = 0) {
  return cost.flops == flops && cost.bytes == elements && cost.index_bytes == index_bytes;
}

Attributes window(int64_t kernel, int64_t stride, Dims dims = {}) {
  Attributes a;
  a.kernel = {kernel, kernel};
  a.strides = {stride, stride};
  a.dims = std::move(dims);
  return a;
}

struct Leaves {
  Graph graph{2};
  int32_t next = 0;
  ValueId operator()(Dims dims) { return graph.add_parameter(next++, std::move(dims)); }
};

}  // namespace

TEST(products_cost_their_multiplications_and_additions) {
  Leaves g;
  // [3, 2, 5] [3, 5, 7]: 3 matrices of 2 x 7 results, 5 products and 5 sums each
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::MatMul, {g({3, 2, 5}), g({3, 5, 7})})), 3 * 2 * 7 * 10,
              30 + 105 + 42));
  const ValueId x = g({2, 4, 6, 6}), w = g({6, 2, 3, 3});
  Attributes conv = window(3, 1);
  conv.group = 2;
  const ValueId y = g.graph.append(Op::Conv, {x, w}, conv);  // [2, 6, 4, 4] by 2 channels a group and 9 places
  CHECK(g.graph.dims(y) == (Dims{2, 6, 4, 4}));
  const double flops = 2.0 * (2 * 6 * 4 * 4) * (2 * 9), elements = 288 + 108 + 192;
  CHECK(costs(cost_of_row(g.graph, y), flops, elements));
  conv.dims = {2, 4, 6, 6};
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::ConvInputGradient, {y, w}, conv)), flops, elements));
  conv.dims = {6, 2, 3, 3};
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::ConvWeightGradient, {x, y}, conv)), flops, elements));
  // Two examples' gradients of 108 values are squared and added.
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::ConvGradientSquares, {x, y}, conv)), flops + 2 * 2 * 108,
              elements));
  const ValueId tokens = g.graph.append(Op::LinearGradientSquares, {g({2, 5, 3}), g({2, 5, 4})});
  CHECK(costs(cost_of_row(g.graph, tokens), 2 * 2 * 5 * 12 + 2 * 2 * 12, 30 + 40 + 12));
  const ValueId rows = g.graph.append(Op::LinearGradientSquares, {g({2, 1, 3}), g({2, 1, 4})});
  CHECK(costs(cost_of_row(g.graph, rows), 2 * 2 * 12 + 2 * 7, 6 + 8 + 12));
}

TEST(passes_cost_what_they_read_and_write) {
  Leaves g;
  const ValueId x = g({2, 3, 8, 8});
  const ValueId pooled = g.graph.append(Op::MaxPool, {x}, window(2, 2));
  CHECK(costs(cost_of_row(g.graph, pooled), 96 * 4, 384 + 96, 96 * 4));
  const ValueId index = g.graph.sibling(pooled, 1);
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::PoolGather, {x, index}, window(2, 2))), 0, 2 * 96, 96 * 4));
  const ValueId scattered = g.graph.append(Op::PoolScatter, {pooled, index}, window(2, 2, {2, 3, 8, 8}));
  CHECK(costs(cost_of_row(g.graph, scattered), 0, 96 + 384, 96 * 4));
  const ValueId mean = g.graph.append(Op::AveragePool, {x}, window(2, 2));
  CHECK(costs(cost_of_row(g.graph, mean), 96 * 4, 384 + 96));
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::AveragePoolGradient, {mean}, window(2, 2, {2, 3, 8, 8}))), 96 * 4,
              96 + 384));
  Attributes axes;
  axes.axes = {2, 3};
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::ReduceSum, {x}, axes)), 384, 384 + 6));
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::Relu, {x})), 384, 2 * 384));
  Attributes axis;
  axis.axis = 1;
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::Softmax, {g({4, 5})}, axis)), 5 * 20, 2 * 20));
  CHECK(costs(cost_of_row(g.graph, g.graph.append(Op::BatchNormalizationTraining, {x})), 6 * 384, 4 * 384 + 6));
  CHECK(costs(cost_of_row(g.graph, g.graph.reshape(x, {2, 192})), 0, 0));
}

// No row reads or writes more than its operands, but for the passes of a normalisation; every row but an alias writes.
SWEEP(every_row_has_a_cost) {
  for (const Sample& sample : operator_samples()) {
    add_test(std::string("cost of ") + row_of(sample.op).name + ", " + sample.name, [sample] {
      Leaves g;
      std::vector<ValueId> leaves;
      for (const Leaf& leaf : sample.leaves) leaves.push_back(g(leaf.dims));
      sample.build(g.graph, leaves);
      for (int32_t i = 0; i < g.graph.node_count(); ++i) {
        const Node& node = g.graph.node(i);
        const Cost cost = row_of(node.op).cost(g.graph, node);
        double most = 0, written = 0;
        for (ValueId id : node.inputs) most += static_cast<double>(element_count(g.graph.dims(id)));
        for (ValueId id : node.outputs) {
          const double count = static_cast<double>(element_count(g.graph.dims(id)));
          most += 2 * count;
          if (!g.graph.value(id).is_index) written += count;
        }
        if (node.op == Op::BatchNormalizationTraining) most *= 2;
        CHECK(cost.flops >= 0 && cost.bytes <= most);
        CHECK(node.op == Op::Reshape ? cost.bytes == 0 : cost.bytes >= written);
      }
    });
  }
}

namespace {

// y = relu(x w + b) and the sum of its squares, as a program.
struct Small {
  Graph graph{1};
  Network network = holder({{40, 30}, {20, 40}, {1, 30}});
  Point point;
  ProgramDescription description{Graph{1}, {}, false};

  Small() {
    const Dims dims[] = {{40, 30}, {20, 40}, {1, 30}};
    std::vector<ValueId> leaves;
    for (size_t i = 0; i < 3; ++i) {
      leaves.push_back(graph.add_parameter(static_cast<int32_t>(i), dims[i]));
      point.parameters.push_back(draw_normal(static_cast<size_t>(element_count(dims[i])), i));
    }
    const ValueId product = graph.append(Op::MatMul, {leaves[1], leaves[0]});
    const ValueId y = graph.append(Op::Relu, {graph.add(product, leaves[2])});
    Attributes rows;
    rows.axes = {0};
    const ValueId squares = graph.append(Op::ReduceSum, {graph.mul(y, y)}, rows);
    description.graph = graph;
    description.outputs = {{squares, 2}};
  }
};

}  // namespace

TEST(steps_can_be_run_one_by_one) {
  const Small s;
  Bound bound(s.network, s.point, DType::f64);
  const size_t length = static_cast<size_t>(s.network.layout().length());
  DeviceValues whole(length, DType::f64), apart(length, DType::f64);
  Program program(s.description, s.network, tested_backend(), DType::f64);
  bound.bindings.sums = whole.data();
  program.run(bound.bindings);
  bound.bindings.sums = apart.data();
  int seen = 0, next = 0;
  while (next < program.step_count()) {
    next = program.visit(bound.bindings, next, [&](const Step&, const std::function<void()>& execute) {
      execute();
      execute();  // a step may be run again
      ++seen;
      return false;
    });
  }
  CHECK(seen == program.step_count() && seen >= 2);
  const Values a = split(s.network.layout(), whole.read())[2], b = split(s.network.layout(), apart.read())[2];
  check_telling(a.data(), a.size(), "sums");
  CHECK(a == b);
}

TEST(a_calibration_times_each_kind_of_step_once_while_its_times_are_good) {
  const Small s;
  Bound bound(s.network, s.point, DType::f64);
  DeviceValues sums(static_cast<size_t>(s.network.layout().length()), DType::f64);
  bound.bindings.sums = sums.data();
  Program program(s.description, s.network, tested_backend(), DType::f64);
  double clock = 0;
  Calibration calibration(tested_backend(), [&] { return clock; });
  int pieces = 0;
  while (!calibration.measure_rates(DType::f64)) ++pieces;
  CHECK(pieces + 1 == rate_count && calibration.measure_rates(DType::f64));
  const Rates& rates = calibration.rates(DType::f64);
  CHECK(rates.gemm > 0 && rates.conv > 0 && rates.squares > 0 && rates.call > 0);
  CHECK(bandwidth(rates, 1) == rates.copy.front() && bandwidth(rates, 1e12) == rates.copy.back());
  CHECK(calibration.rates(DType::f32).gemm == 0);
  CHECK(calibration.time_steps(program, bound.bindings, 0, 10) == program.step_count());
  double flops = 0;
  for (const Step& step : program.plan().steps) {
    const std::string signature = signature_of(program.graph(), step, DType::f64, Precision::float32);
    const StepTime* time = calibration.find(signature);
    CHECK(time != nullptr && time->seconds > 0);
    CHECK(calibration.find(signature + " ") == nullptr);
    const StepCost cost = cost_of(program.graph(), program.plan(), step);
    CHECK(cost.bytes > 0 && seconds_by_rates(cost, rates) > 0);
    flops += cost.flops;
  }
  CHECK(flops >= 2.0 * 20 * 40 * 30);
  // Steps that are known are not run again: those after them find values that no kernel is slow on.
  calibration.time_steps(program, bound.bindings, 0, 10);
  program.visit(bound.bindings, 0, [&](const Step& step, const std::function<void()>&) {
    const Tensor& made = step.output_tensors[0];
    Values values(static_cast<size_t>(element_count(made.dims)));
    tested_backend()->copy_out(values.data(), made.data, values.size() * sizeof(double));
    if (&step == &program.plan().steps.back()) CHECK(values == Values(values.size(), 0.5));
    return true;
  });
  // What is no longer good is measured again, what an estimate left unfinished too.
  clock = Calibration::good_seconds + 1;
  pieces = 0;
  while (!calibration.measure_rates(DType::f64)) ++pieces;
  CHECK(pieces + 1 == rate_count);
  CHECK(!calibration.measure_rates(DType::f32));
  clock += Calibration::good_seconds + 1;
  pieces = 0;
  while (!calibration.measure_rates(DType::f32)) ++pieces;
  CHECK(pieces + 1 == rate_count);
  calibration.time_steps(program, bound.bindings, 0, 10);
  for (const Step& step : program.plan().steps) {
    CHECK(calibration.find(signature_of(program.graph(), step, DType::f64, Precision::float32))->taken == clock);
  }
}

namespace {

// Limits are the CPU's here, whatever device the run is about.
std::shared_ptr<Backend> host() { return open_backend("cpu"); }

}  // namespace

TEST(a_program_that_does_not_fit_is_refused_before_it_is_allocated) {
  const Small s;
  const MemoryUse before = host()->memory_use();
  CHECK(before.limit == 0 && before.free > 0);
  host()->limit_memory(before.held + 1000);
  host()->reset_peak();
  CHECK(host()->memory_use().free <= 1000);
  CHECK_THROWS(ErrorCode::out_of_memory, Program(s.description, s.network, host(), DType::f64));
  CHECK_THROWS(ErrorCode::out_of_memory, host()->allocate(2000));
  CHECK(host()->memory_use().peak == host()->memory_use().held);
  void* fits = host()->allocate(500);
  CHECK(host()->memory_use().held >= before.held + 500);
  host()->release(fits);
  host()->limit_memory(0);
  CHECK(host()->memory_use().held == before.held);
  Program program(s.description, s.network, host(), DType::f64);
  CHECK(host()->memory_use().held >= before.held + program.arena_bytes());
}

TEST(kernels_work_in_memory_that_is_noted) {
  const std::shared_ptr<Backend> device = tested_backend();
  const int64_t n = 100000;
  const DeviceValues x(Values(static_cast<size_t>(n), 0.5), DType::f64);
  const Tensor vector = dense_tensor(x.data(), DType::f64, {n});
  const auto noted = [&] {
    const std::vector<size_t> bytes = device->working_memory();
    return std::accumulate(bytes.begin(), bytes.end(), size_t{0});
  };
  device->watch_working_memory();
  CHECK(noted() == 0);
  CHECK(device->dot(vector, vector) == 0.25 * static_cast<double>(n));
  const size_t once = noted();
  CHECK(once > 0 && once < static_cast<size_t>(n) * 8);
  CHECK(device->dot(vector, vector) > 0 && noted() == once);
  device->watch_working_memory();
  CHECK(noted() == 0);
}

TEST(working_memory_is_noted_by_kind) {
  host()->watch_working_memory();
  const std::vector<size_t> none = host()->working_memory();
  CHECK(std::all_of(none.begin(), none.end(), [](size_t bytes) { return bytes == 0; }));
  cpu::workspace<float>(cpu::Slot::reduction, 1000);
  cpu::workspace<float>(cpu::Slot::reduction, 10);
  CHECK(host()->working_memory()[static_cast<size_t>(cpu::Slot::reduction)] == 4000);
}

}  // namespace palimpsest::check
