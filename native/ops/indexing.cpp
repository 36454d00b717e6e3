// Rows that pick values by position: Gather (fixed indices) and TakeAlongAxis (computed indices), with their adjoints.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::indexing {

namespace {

size_t checked_axis(const Dims& dims, int64_t axis) {
  if (axis < 0 || axis >= static_cast<int64_t>(dims.size())) {
    throw Error(ErrorCode::shape, "expected an axis of " + to_string(dims) + ", got " + std::to_string(axis));
  }
  return static_cast<size_t>(axis);
}

void check_indices(const Dims& indices, int64_t extent) {
  for (int64_t i : indices) {
    if (i < 0 || i >= extent) {
      throw Error(ErrorCode::shape, "expected indices below " + std::to_string(extent) + ", got " + std::to_string(i));
    }
  }
}

// Positions along an axis of another extent would be read outside their bounds.
void check_positions(const Graph& graph, ValueId index, int64_t axis, const Dims& x) {
  const Node& maximum = graph.node(graph.value(index).node);
  const Dims& from = graph.dims(maximum.inputs[0]);
  if (maximum.op != Op::ReduceMax || maximum.attributes.axis != axis || from != x) {
    throw Error(ErrorCode::shape, "expected positions from a ReduceMax of " + to_string(x) + " along axis " +
                                      std::to_string(axis) + ", got " + row_of(maximum.op).name + " of " +
                                      to_string(from));
  }
}

}  // namespace

// y[.., j, ..] = x[.., indices[j], ..]
void gather_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  const size_t axis = checked_axis(dims, node.attributes.axis);
  check_indices(node.attributes.indices, dims[axis]);
  dims[axis] = static_cast<int64_t>(node.attributes.indices.size());
  outputs[0].dims = dims;
}

void gather_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.gather(in[0], node.attributes.indices, static_cast<int>(node.attributes.axis), out[0]);
}

void gather_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  Attributes attributes = node.attributes;
  attributes.dims = graph.dims(node.inputs[0]);
  x_bar[0] = graph.append(Op::ScatterAdd, {y_bar}, attributes);
}

// x_bar[.., i, ..] = sum of y_bar[.., j, ..] over j with indices[j] = i
void scatter_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = node.attributes.dims;
  const size_t axis = checked_axis(dims, node.attributes.axis);
  check_indices(node.attributes.indices, dims[axis]);
  outputs[0].dims = dims;
  dims[axis] = static_cast<int64_t>(node.attributes.indices.size());
  if (dims != graph.dims(node.inputs[0])) throw Error(ErrorCode::shape, "expected one slice for each index");
}

void scatter_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.scatter_add(in[0], node.attributes.indices, static_cast<int>(node.attributes.axis), out[0]);
}

void scatter_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  Attributes attributes = node.attributes;
  attributes.dims = {};
  x_bar[0] = graph.append(Op::Gather, {y_bar}, attributes);
}

// y[.., 0, ..] = x[.., index, ..] along the axis; index has size 1 there.
void take_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  dims[checked_axis(dims, node.attributes.axis)] = 1;
  if (dims != graph.dims(node.inputs[1]))
    throw Error(ErrorCode::shape, "expected an index of shape " + to_string(dims));
  check_positions(graph, node.inputs[1], node.attributes.axis, graph.dims(node.inputs[0]));
  outputs[0].dims = dims;
}

void take_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.take_along_axis(in[0], in[1], static_cast<int>(node.attributes.axis), out[0]);
}

void take_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  if (!wanted[0]) return;
  Attributes attributes = node.attributes;
  attributes.dims = graph.dims(node.inputs[0]);
  x_bar[0] = graph.append(Op::PutAlongAxis, {y_bar, node.inputs[1]}, attributes);
}

void put_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = node.attributes.dims;
  outputs[0].dims = dims;
  dims[checked_axis(dims, node.attributes.axis)] = 1;
  if (dims != graph.dims(node.inputs[0]) || dims != graph.dims(node.inputs[1])) {
    throw Error(ErrorCode::shape, "expected y_bar and index of shape " + to_string(dims));
  }
  check_positions(graph, node.inputs[1], node.attributes.axis, node.attributes.dims);
}

void put_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.put_along_axis(in[0], in[1], static_cast<int>(node.attributes.axis), out[0]);
}

void put_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  if (!wanted[0]) return;
  Attributes attributes = node.attributes;
  attributes.dims = {};
  x_bar[0] = graph.append(Op::TakeAlongAxis, {y_bar, node.inputs[1]}, attributes);
}

}  // namespace palimpsest::indexing
