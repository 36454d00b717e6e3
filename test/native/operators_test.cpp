// The sweep over the operator table: forward, JVP, VJP and second order of every row, for every sample and layout.
#include <algorithm>
#include <set>

#include "check.h"
#include "graph/derivative.h"
#include "interpreter.h"
#include "ops/table.h"
#include "plan_runner.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

// Which operands of rank 4 reach the row in channels-last storage (and its result leaves in it).
enum class Storing : uint8_t { as_given, channels_last, first_only };

const char* name_of(Storing storing) {
  return storing == Storing::as_given ? "" : storing == Storing::channels_last ? ", channels-last" : ", mixed layouts";
}

bool stores_channels_last(const Plan& plan) {
  return std::any_of(plan.buffers.begin(), plan.buffers.end(),
                     [](const Buffer& buffer) { return buffer.layout == Layout::channels_last; });
}

bool told_apart(const Dims& dims) { return dims.size() == 4 && !layouts_coincide(dims); }

// A sample's graph with everything that is asked of it.
class Trial {
 public:
  Trial(const Sample& sample, Storing storing)
      : sample_(sample), graph_(1), network_(holder(leaf_dims(sample))), seed_(seed_of(sample.name)) {
    std::vector<ValueId> in;
    for (size_t i = 0; i < sample.leaves.size(); ++i) {
      const Leaf& leaf = sample.leaves[i];
      x_.push_back(graph_.add_parameter(static_cast<int32_t>(i), leaf.dims));
      point_.parameters.push_back(draw(leaf, seed_ + i));
      if (!leaf.fixed) free_.push_back(i);
      const bool moved = storing == Storing::channels_last || (storing == Storing::first_only && i == 0);
      in.push_back(moved && told_apart(leaf.dims) ? in_channels_last(graph_, x_.back()) : x_.back());
    }
    y_ = sample.build(graph_, in);
    channels_last_ = windowed();  // the pools that store the operands so count as well
    if (storing == Storing::channels_last && told_apart(graph_.dims(y_))) y_ = in_channels_last(graph_, y_);
  }

  void run() {
    check_covers_row();
    check_forward();
    if (sample_.curve == Curve::constant) return check_constant();
    if (sample_.orders < 1) return;
    for (const std::vector<size_t>& moving : directions()) {
      check_jvp(moving);
      check_vjp(moving);
      if (sample_.orders > 1) check_second_order(moving);
    }
  }

 private:
  static std::vector<Dims> leaf_dims(const Sample& sample) {
    std::vector<Dims> dims;
    for (const Leaf& leaf : sample.leaves) dims.push_back(leaf.dims);
    // One more, for the cotangent.
    Graph graph(1);
    std::vector<ValueId> in;
    for (size_t i = 0; i < dims.size(); ++i) in.push_back(graph.add_parameter(static_cast<int32_t>(i), dims[i]));
    dims.push_back(graph.dims(sample.build(graph, in)));
    return dims;
  }

  // The rows over windows are stored channels-last whatever came, unless both layouts are the same memory.
  bool windowed() const {
    for (int32_t i = 0; i < graph_.node_count(); ++i) {
      const Node& node = graph_.node(i);
      const Row& row = row_of(node.op);
      if (row.layout != LayoutRule::channels_last) continue;
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        if ((row.activations >> k & 1) != 0 && told_apart(graph_.dims(node.inputs[k]))) return true;
      }
      for (size_t k = 0; k < node.outputs.size(); ++k) {
        if ((row.results >> k & 1) != 0 && told_apart(graph_.dims(node.outputs[k]))) return true;
      }
    }
    return false;
  }

  // All free leaves together, then each alone, so that absent tangents and unwanted cotangents occur.
  std::vector<std::vector<size_t>> directions() const {
    std::vector<std::vector<size_t>> list = {free_};
    if (free_.size() > 1) {
      for (size_t i : free_) list.push_back({i});
    }
    return list;
  }

  void check_covers_row() const {
    bool covered = false;
    for (int32_t i = 0; i < graph_.node_count(); ++i) covered = covered || graph_.node(i).op == sample_.op;
    CHECK(covered);
  }

  void check_forward() {
    const Values y = run_graph(graph_, network_, {y_}, point_)[0];
    const Values expected = interpret(graph_, point_)[static_cast<size_t>(y_)];
    CHECK(distance(y, expected) <= 1e-13);
    Values perturbed = expected;
    perturbed[0] += 1e-9 * norm(expected);
    CHECK_CAN_FAIL(distance(y, perturbed) <= 1e-13);
    expect_dense(y, sample_.dense, "the result");
    check_plans(graph_, y_, y, 1e-14);
    CHECK(distance(run_graph(graph_, network_, {y_}, point_, DType::f32)[0], y) <= 3e-6);
  }

  // The fused and the unfused plan, each in poisoned memory.
  void check_plans(const Graph& graph, ValueId output, const Values& expected, double tolerance) {
    const ProgramDescription description{graph, {{output, -1}}, false};
    for (bool fuse : {true, false}) {
      const Plan plan = make_plan(description, DType::f64, fuse);
      CHECK(memory_fault(plan, false) == "");
      CHECK(stores_channels_last(plan) == channels_last_);
      CHECK(distance(run_plan(description, plan, network_, point_)[0], expected) <= tolerance);
    }
  }

  void expect_dense(const Values& values, double share, const std::string& what) const {
    const auto zeros = static_cast<double>(std::count(values.begin(), values.end(), 0.0));
    if (zeros > (1 - share) * static_cast<double>(values.size())) {
      mistrust(what + ": " + std::to_string(static_cast<int>(zeros)) + " of " + std::to_string(values.size()) +
               " values are zero");
    }
  }

  // Comparisons have no derivative, and say so by an absent tangent.
  void check_constant() {
    Graph graph = graph_;
    std::vector<std::pair<ValueId, ValueId>> seeds;
    for (size_t i : free_) seeds.emplace_back(x_[i], graph.add_tangent(static_cast<int32_t>(i), graph.dims(x_[i])));
    CHECK(linearise(graph, seeds)[static_cast<size_t>(y_)] == none);
    const std::pair<ValueId, ValueId> seed = {y_, y_};
    for (ValueId x_bar : transpose(graph, {&seed, 1}, x_)) CHECK(x_bar == none);
  }

  // Adds tangents for the moving leaves to a point.
  Point with_tangents(const Point& from, const std::vector<size_t>& moving, uint64_t seed) const {
    Point point = from;
    point.tangents.resize(x_.size() + 1);
    for (size_t i : moving) point.tangents[i] = draw_normal(point.parameters[i].size(), seed_ + seed + i);
    return point;
  }

  std::vector<std::pair<ValueId, ValueId>> seeds(Graph& graph, const std::vector<size_t>& moving) const {
    std::vector<std::pair<ValueId, ValueId>> list;
    for (size_t i : moving) list.emplace_back(x_[i], graph.add_tangent(static_cast<int32_t>(i), graph.dims(x_[i])));
    return list;
  }

  // (f(x + h x_dot) - f(x - h x_dot)) / 2h for a list of outputs
  std::vector<Values> central_differences(const Graph& graph, const std::vector<ValueId>& outputs,
                                          const Point& at) const {
    const double h = sample_.curve == Curve::exact ? 1 : 1e-5;
    const auto shifted = [&](double step) {
      Point to = at;
      for (size_t i = 0; i < at.parameters.size(); ++i) {
        if (!at.tangents.at(i).empty()) to.parameters[i] = moved(at.parameters[i], step, at.tangents[i]);
      }
      return run_graph(graph, network_, outputs, to);
    };
    const std::vector<Values> up = shifted(h), down = shifted(-h);
    std::vector<Values> slopes;
    for (size_t i = 0; i < up.size(); ++i) slopes.push_back(difference(up[i], down[i], 0.5 / h));
    return slopes;
  }

  bool is_flat(size_t leaf) const { return sample_.flat == static_cast<int>(leaf); }

  double tolerance() const { return sample_.curve == Curve::exact ? 1e-13 : 1e-7; }

  void check_jvp(const std::vector<size_t>& moving) {
    Graph graph = graph_;
    const ValueId y_dot = linearise(graph, seeds(graph, moving))[static_cast<size_t>(y_)];
    if (moving == std::vector<size_t>{static_cast<size_t>(sample_.flat)}) return CHECK(y_dot == none);
    CHECK(y_dot != none);
    if (y_dot == none) return;
    CHECK(graph.dims(y_dot) == graph.dims(y_));
    const Point at = with_tangents(point_, moving, 100);
    const Values tangent = run_graph(graph, network_, {y_dot}, at)[0];
    const Values slope = central_differences(graph_, {y_}, at)[0];
    CHECK(distance(tangent, slope) <= tolerance());
    Values perturbed = slope;
    perturbed[0] += 1e-6 * norm(slope);
    CHECK_CAN_FAIL(distance(tangent, perturbed) <= tolerance());
    CHECK(distance(run_graph(graph, network_, {y_dot}, at, DType::f32)[0], tangent) <= 1e-5);
  }

  // The graph of x_bar = vjp(y_bar), y_bar a parameter after the leaves.
  std::vector<ValueId> transposed(Graph& graph, const std::vector<size_t>& wanted, Point& at) const {
    const auto index = x_.size();
    const ValueId y_bar = graph.add_parameter(static_cast<int32_t>(index), graph.dims(y_));
    at.parameters.resize(index);
    at.parameters.push_back(draw_normal(static_cast<size_t>(element_count(graph.dims(y_))), seed_ + 200));
    std::vector<ValueId> x;
    for (size_t i : wanted) x.push_back(x_[i]);
    const std::pair<ValueId, ValueId> seed = {y_, y_bar};
    return transpose(graph, {&seed, 1}, x);
  }

  // <y_bar, jvp(x_dot)> = <vjp(y_bar), x_dot>
  void check_vjp(const std::vector<size_t>& moving) {
    Graph graph = graph_;
    Point at = with_tangents(point_, moving, 100);
    const ValueId y_dot = linearise(graph, seeds(graph, moving))[static_cast<size_t>(y_)];
    const std::vector<ValueId> x_bar = transposed(graph, moving, at);
    for (size_t k = 0; k < moving.size(); ++k) {
      CHECK((x_bar[k] == none) == is_flat(moving[k]));
      if (x_bar[k] != none) CHECK(graph.dims(x_bar[k]) == graph.dims(x_[moving[k]]));
    }
    if (std::all_of(x_bar.begin(), x_bar.end(), [](ValueId id) { return id == none; })) return;
    std::vector<ValueId> outputs = x_bar;
    outputs.push_back(y_dot);
    const std::vector<Values> values = run_graph(graph, network_, outputs, at);
    const Values &y_bar = at.parameters.back(), &tangent = values.back();
    double pulled = 0, bars = 0, dots = 0;
    for (size_t k = 0; k < moving.size(); ++k) {
      const Values& x_dot = at.tangents[moving[k]];
      if (x_bar[k] == none) continue;
      pulled += inner(values[k], x_dot);
      bars += inner(values[k], values[k]);
      dots += inner(x_dot, x_dot);
    }
    const double pushed = inner(y_bar, tangent);
    const double scale = std::max(norm(y_bar) * norm(tangent), std::sqrt(bars * dots));
    CHECK_NEAR(pushed, pulled, 1e-12 * scale);
    if (!(std::abs(pushed) > 1e-6 * scale)) mistrust("the products of the adjointness check are all but zero");
    // Cotangents themselves, in both plans and in float32.
    for (size_t k = 0; k < moving.size(); ++k) {
      if (x_bar[k] == none) continue;
      const ProgramDescription description{graph, {{x_bar[k], -1}}, false};
      CHECK(distance(run_plan(description, make_plan(description, DType::f64, false), network_, at)[0], values[k]) <=
            1e-14);
      CHECK(distance(run_graph(graph, network_, {x_bar[k]}, at, DType::f32)[0], values[k]) <= 1e-5);
    }
  }

  // d/dt vjp(x + t x_dot, y_bar + t y_bar_dot), and the symmetry of the Hessian of <y_bar, y(x)>.
  void check_second_order(const std::vector<size_t>& moving) {
    Graph graph = graph_;
    Point at = point_;
    const std::vector<ValueId> x_bar = transposed(graph, moving, at);
    std::vector<size_t> with_bar = moving;
    with_bar.push_back(x_.size());
    at = with_tangents(at, with_bar, 300);
    Graph second = graph;
    auto list = seeds(second, moving);
    const ValueId y_bar = graph.value_count() > 0 ? parameter_value(graph, static_cast<int32_t>(x_.size())) : none;
    list.emplace_back(y_bar, second.add_tangent(static_cast<int32_t>(x_.size()), second.dims(y_bar)));
    const std::vector<ValueId> tangents = linearise(second, list);
    std::vector<ValueId> x_bar_dot;
    for (ValueId bar : x_bar) x_bar_dot.push_back(bar == none ? none : tangents[static_cast<size_t>(bar)]);
    const std::vector<Values> computed = run_graph(second, network_, x_bar_dot, at);
    const std::vector<Values> slopes = central_differences(graph, x_bar, at);
    for (size_t k = 0; k < x_bar.size(); ++k) {
      CHECK((x_bar_dot[k] == none) == is_flat(moving[k]));
      if (x_bar_dot[k] == none) continue;
      CHECK(distance(computed[k], slopes[k]) <= tolerance());
      Values perturbed = slopes[k];
      perturbed[0] += 1e-6 * norm(slopes[k]);
      CHECK_CAN_FAIL(distance(computed[k], perturbed) <= tolerance());
    }
    check_symmetry(graph, x_bar, moving, at);
  }

  static ValueId parameter_value(const Graph& graph, int32_t index) {
    for (ValueId id = 0; id < graph.value_count(); ++id) {
      if (graph.value(id).source == Source::parameter && graph.value(id).index == index) return id;
    }
    return none;
  }

  // <u, H v> = <H u, v>
  void check_symmetry(const Graph& transposed_graph, const std::vector<ValueId>& x_bar,
                      const std::vector<size_t>& moving, const Point& at) {
    Graph graph = transposed_graph;
    const std::vector<ValueId> tangents = linearise(graph, seeds(graph, moving));
    std::vector<ValueId> products;
    for (ValueId bar : x_bar) products.push_back(bar == none ? none : tangents[static_cast<size_t>(bar)]);
    if (std::all_of(products.begin(), products.end(), [](ValueId id) { return id == none; })) return;  // linear
    const Point u = with_tangents(at, moving, 400), v = with_tangents(at, moving, 500);
    const std::vector<Values> hu = run_graph(graph, network_, products, u),
                              hv = run_graph(graph, network_, products, v);
    double u_hv = 0, hu_v = 0, scale = 0;
    for (size_t k = 0; k < moving.size(); ++k) {
      if (products[k] == none) continue;
      u_hv += inner(u.tangents[moving[k]], hv[k]);
      hu_v += inner(v.tangents[moving[k]], hu[k]);
      scale += norm(u.tangents[moving[k]]) * norm(hv[k]);
    }
    CHECK_NEAR(u_hv, hu_v, 1e-12 * scale);
    if (!(std::abs(u_hv) > 1e-6 * scale)) mistrust("the products of the symmetry check are all but zero");
  }

  const Sample& sample_;
  Graph graph_;
  Network network_;
  const uint64_t seed_;
  std::vector<ValueId> x_;
  std::vector<size_t> free_;
  Point point_;
  ValueId y_ = none;
  bool channels_last_ = false;  // the plan must store something so
};

const std::vector<Sample>& samples() {
  static const std::vector<Sample> all = operator_samples();
  return all;
}

}  // namespace

SWEEP(operators) {
  for (const Sample& sample : samples()) {
    const auto images = std::count_if(sample.leaves.begin(), sample.leaves.end(),
                                      [](const Leaf& leaf) { return told_apart(leaf.dims); });
    std::vector<Storing> storings = {Storing::as_given};
    if (images > 0) storings.push_back(Storing::channels_last);
    if (images > 1) storings.push_back(Storing::first_only);
    for (Storing storing : storings) {
      const std::string name = std::string("row ") + row_of(sample.op).name + ": " + sample.name + name_of(storing);
      add_test(name, [&sample, storing] { Trial(sample, storing).run(); });
    }
  }
}

TEST(every_row_has_a_sample) {
  std::set<Op> sampled;
  for (const Sample& sample : samples()) sampled.insert(sample.op);
  for (size_t i = 0; i < static_cast<size_t>(Op::count_); ++i) {
    const Op op = static_cast<Op>(i);
    check(sampled.count(op) != 0, __FILE__, __LINE__, std::string("no sample for row ") + row_of(op).name);
    CHECK(op_named(row_of(op).name) == op);
  }
}

}  // namespace palimpsest::check
