// Softmax and LogSoftmax along an axis.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::softmax {

namespace {

ValueId sum_along(Graph& graph, ValueId x, int64_t axis) {
  Attributes attributes;
  attributes.axes = {axis};
  return graph.append(Op::ReduceSum, {x}, attributes);
}

// S(y) t = y (t - sum y t), the softmax's Jacobian, which is symmetric
ValueId jacobian(Graph& graph, ValueId y, ValueId t, int64_t axis) {
  return graph.mul(y, graph.append(Op::Sub, {t, sum_along(graph, graph.mul(y, t), axis)}));
}

ValueId softmax_of(Graph& graph, const Node& node) {
  Attributes attributes;
  attributes.axis = node.attributes.axis;
  return graph.append(Op::Softmax, {node.inputs[0]}, attributes);
}

}  // namespace

void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  outputs[0].dims = graph.dims(node.inputs[0]);
  if (node.attributes.axis < 0 || node.attributes.axis >= static_cast<int64_t>(outputs[0].dims.size())) {
    throw Error(ErrorCode::shape, "expected an axis of the input, got " + std::to_string(node.attributes.axis));
  }
}

void forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.softmax(in[0], static_cast<int>(node.attributes.axis), out[0]);
}

void log_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.log_softmax(in[0], static_cast<int>(node.attributes.axis), out[0]);
}

ValueId jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  return x_dot[0] == none ? none : jacobian(graph, node.outputs[0], x_dot[0], node.attributes.axis);
}

void vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = jacobian(graph, node.outputs[0], y_bar, node.attributes.axis);
}

// y_dot = x_dot - sum p x_dot
ValueId log_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  if (x_dot[0] == none) return none;
  const ValueId p = softmax_of(graph, node);
  return graph.append(Op::Sub, {x_dot[0], sum_along(graph, graph.mul(p, x_dot[0]), node.attributes.axis)});
}

// x_bar = y_bar - p sum y_bar
void log_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  const ValueId p = softmax_of(graph, node);
  x_bar[0] = graph.append(Op::Sub, {y_bar, graph.mul(p, sum_along(graph, y_bar, node.attributes.axis))});
}

// Of each element: the largest, the difference, its exponential, their sum, the quotient (or the second difference)
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  c.flops = 5 * static_cast<double>(element_count(graph.dims(node.inputs[0])));
  return c;
}

}  // namespace palimpsest::softmax
