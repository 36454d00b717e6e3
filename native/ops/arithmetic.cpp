// Rows with two or three broadcast operands: Add, Sub, Mul, Div, Where and the comparisons.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::arithmetic {

Instruction instruction(const Node& node) {
  Instruction step;
  switch (node.op) {
    case Op::Add: step.code = Code::add; break;
    case Op::Sub: step.code = Code::sub; break;
    case Op::Mul: step.code = Code::mul; break;
    case Op::Div: step.code = Code::div; break;
    case Op::Where: step.code = Code::where; break;
    case Op::Greater: step.code = Code::greater; break;
    case Op::GreaterOrEqual: step.code = Code::greater_or_equal; break;
    case Op::Equal: step.code = Code::equal; break;
    default: throw Error(ErrorCode::internal, "expected a row of arithmetic");
  }
  step.a = 0;
  step.b = 1;
  step.c = node.inputs.size() > 2 ? 2 : -1;
  return step;
}

void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  for (size_t i = 1; i < node.inputs.size(); ++i) dims = broadcast_dims(dims, graph.dims(node.inputs[i]));
  outputs[0].dims = dims;
}

// y = a + b (a - b): y_dot = a_dot + b_dot (a_dot - b_dot), expanded where only a broadcast operand moves.
ValueId add_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  const Dims dims = graph.dims(node.outputs[0]);
  if (x_dot[0] != none && x_dot[1] != none) return graph.append(node.op, {x_dot[0], x_dot[1]});
  const double sign = x_dot[0] == none && node.op == Op::Sub ? -1 : 1;
  return graph.expand(graph.scale(x_dot[0] != none ? x_dot[0] : x_dot[1], sign), dims);
}

void add_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  if (wanted[0]) x_bar[0] = graph.sum_to(y_bar, graph.dims(node.inputs[0]));
  if (wanted[1]) {
    x_bar[1] = graph.scale(graph.sum_to(y_bar, graph.dims(node.inputs[1])), node.op == Op::Sub ? -1 : 1);
  }
}

void mul_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  for (size_t i = 0; i < 2; ++i) {
    if (wanted[i]) x_bar[i] = graph.sum_to(graph.mul(y_bar, node.inputs[1 - i]), graph.dims(node.inputs[i]));
  }
}

// y = a / b: y_dot = (a_dot - y b_dot) / b.
ValueId div_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  const ValueId b = node.inputs[1];
  ValueId numerator = x_dot[0];
  if (x_dot[1] != none) {
    const ValueId moved = graph.mul(node.outputs[0], x_dot[1]);
    numerator = numerator == none ? graph.scale(moved, -1) : graph.append(Op::Sub, {numerator, moved});
  }
  return graph.append(Op::Div, {numerator, b});
}

void div_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  const ValueId over_b = graph.append(Op::Div, {y_bar, node.inputs[1]});
  if (wanted[0]) x_bar[0] = graph.sum_to(over_b, graph.dims(node.inputs[0]));
  if (wanted[1]) {
    x_bar[1] = graph.scale(graph.sum_to(graph.mul(over_b, node.outputs[0]), graph.dims(node.inputs[1])), -1);
  }
}

namespace {

ValueId zero(Graph& graph) {
  Attributes attributes;
  attributes.alpha = 0;
  return graph.append(Op::ConstantOfShape, {}, attributes);
}

}  // namespace

// y = c != 0 ? a : b, linear in a and b.
ValueId where_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  if (x_dot[1] == none && x_dot[2] == none) return none;
  const ValueId a = x_dot[1] != none ? x_dot[1] : zero(graph);
  const ValueId b = x_dot[2] != none ? x_dot[2] : zero(graph);
  return graph.expand(graph.append(Op::Where, {node.inputs[0], a, b}), graph.dims(node.outputs[0]));
}

void where_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  const ValueId c = node.inputs[0];
  if (wanted[1]) {
    x_bar[1] = graph.sum_to(graph.append(Op::Where, {c, y_bar, zero(graph)}), graph.dims(node.inputs[1]));
  }
  if (wanted[2]) {
    x_bar[2] = graph.sum_to(graph.append(Op::Where, {c, zero(graph), y_bar}), graph.dims(node.inputs[2]));
  }
}

// s = sum_b (sum within example b of dy/dp y_bar)^2 for a broadcast operand p.
ValueId squares(Graph& graph, const Node& node, ValueId y_bar, int which) {
  const ValueId y = node.outputs[0];
  const BatchAxis batch = graph.value(y).batch;
  const Dims full = graph.dims(y);
  const Dims p = graph.dims(node.inputs[static_cast<size_t>(which)]);
  if (!batch.present() || batch.outer != 1) return none;
  bool wanted[2] = {which == 0, which == 1};
  // The per-element contribution c, whose sum over everything but p's axes is the gradient.
  ValueId c = y_bar;
  const ValueId other = node.inputs[static_cast<size_t>(1 - which)];
  if (node.op == Op::Mul) c = graph.mul(y_bar, other);
  if (node.op == Op::Div) {
    c = graph.append(Op::Div, {y_bar, node.inputs[1]});
    if (wanted[1]) c = graph.mul(c, y);
  }
  c = graph.expand(c, full);

  // Split the batch axis into examples and rows of an example, then sum within the example.
  const size_t axis = static_cast<size_t>(batch.axis);
  const size_t lead = full.size() - p.size();
  const bool split = batch.inner > 1;
  if (axis >= lead && p[axis - lead] != 1) return none;
  Dims dims = full, keep = full;
  for (size_t i = 0; i < full.size(); ++i) keep[i] = i < lead ? 1 : p[i - lead];
  size_t examples = axis;
  if (split) {
    dims[axis] = full[axis] / batch.inner;
    dims.insert(dims.begin() + static_cast<int64_t>(axis) + 1, batch.inner);
    keep.insert(keep.begin() + static_cast<int64_t>(axis), 1);
    c = graph.reshape(c, dims);
  }
  Attributes within;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i != examples && keep[i] == 1 && dims[i] != 1) within.axes.push_back(static_cast<int64_t>(i));
  }
  if (!within.axes.empty()) c = graph.append(Op::ReduceSum, {c}, within);
  Attributes over;
  over.axes = {static_cast<int64_t>(examples)};
  return graph.reshape(graph.append(Op::ReduceSum, {graph.mul(c, c)}, over), p);
}

// y = p c with c not of the batch and of p's own shape: squares pass back times c^2.
ValueId mul_squares_through(Graph& graph, const Node& node, ValueId s, int which) {
  const ValueId c = node.inputs[static_cast<size_t>(1 - which)];
  if (graph.dims(node.inputs[static_cast<size_t>(which)]) != graph.dims(node.outputs[0])) return none;
  return graph.mul(s, graph.mul(c, c));
}

ValueId div_squares_through(Graph& graph, const Node& node, ValueId s, int which) {
  if (which != 0 || graph.dims(node.inputs[0]) != graph.dims(node.outputs[0])) return none;
  return graph.append(Op::Div, {s, graph.mul(node.inputs[1], node.inputs[1])});
}

}  // namespace palimpsest::arithmetic
