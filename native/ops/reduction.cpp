// ReduceSum (with a factor: a mean is alpha = 1/count) and ReduceMax; reduced axes keep size 1.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::reduction {

// y = alpha sum of x over axes
void sum_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  for (int64_t axis : node.attributes.axes) {
    if (axis < 0 || axis >= static_cast<int64_t>(dims.size())) {
      throw Error(ErrorCode::shape, "expected axes of the input, got " + to_string(node.attributes.axes));
    }
    dims[static_cast<size_t>(axis)] = 1;
  }
  outputs[0].dims = dims;
}

void sum_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.reduce_sum(in[0], out[0], node.attributes.alpha);
}

void sum_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = graph.expand(graph.scale(y_bar, node.attributes.alpha), graph.dims(node.inputs[0]));
}

// (y, index) = max of x along the axis and its first position
void max_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  if (node.attributes.axis < 0 || node.attributes.axis >= static_cast<int64_t>(dims.size())) {
    throw Error(ErrorCode::shape, "expected an axis of the input, got " + std::to_string(node.attributes.axis));
  }
  dims[static_cast<size_t>(node.attributes.axis)] = 1;
  outputs[0].dims = outputs[1].dims = dims;
  outputs[1].is_index = true;
}

void max_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.reduce_max(in[0], static_cast<int>(node.attributes.axis), out[0], out[1]);
}

ValueId max_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  if (x_dot[0] == none) return none;
  Attributes attributes;
  attributes.axis = node.attributes.axis;
  return graph.append(Op::TakeAlongAxis, {x_dot[0], node.outputs[1]}, attributes);
}

void max_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  Attributes attributes;
  attributes.axis = node.attributes.axis;
  attributes.dims = graph.dims(node.inputs[0]);
  x_bar[0] = graph.append(Op::PutAlongAxis, {y_bar, node.outputs[1]}, attributes);
}

}  // namespace palimpsest::reduction
