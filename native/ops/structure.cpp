// Rows that move values without arithmetic: Reshape, Transpose, Expand, Concat, Slice and their adjoints.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::structure {

namespace {

// The part of t that starts at `starts`, walks by `steps`, of size `dims`.
Tensor view(const Tensor& t, const Dims& starts, const Dims& steps, const Dims& dims) {
  Tensor part = t;
  int64_t offset = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    offset += starts[i] * t.strides[i];
    part.strides[i] = t.strides[i] * steps[i];
  }
  part.dims = dims;
  part.data = static_cast<char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
  return part;
}

void check_slice(const Dims& whole, const Dims& starts, const Dims& steps, const Dims& part) {
  const size_t rank = whole.size();
  if (starts.size() != rank || steps.size() != rank || part.size() != rank) {
    throw Error(ErrorCode::shape, "expected a start, a step and a size for each axis of " + to_string(whole));
  }
  for (size_t i = 0; i < rank; ++i) {
    // The longest step that could stay inside; checked first, so that nothing overflows.
    const int64_t most = part[i] > 1 ? (whole[i] - 1) / (part[i] - 1) : whole[i];
    const bool fits = part[i] >= 1 && starts[i] >= 0 && starts[i] < whole[i] && steps[i] != 0 &&
                      (part[i] == 1 || (steps[i] <= most && steps[i] >= -most));
    const int64_t last = fits && part[i] > 1 ? starts[i] + steps[i] * (part[i] - 1) : starts[i];
    if (!fits || last < 0 || last >= whole[i]) {
      throw Error(ErrorCode::shape, "expected a slice inside " + to_string(whole) + ", got starts " +
                                        to_string(starts) + ", steps " + to_string(steps) + ", sizes " +
                                        to_string(part));
    }
  }
}

bool slices_axis(const Dims& whole, const Node& node, const Dims& part, int32_t axis) {
  const size_t i = static_cast<size_t>(axis);
  return part[i] != whole[i] || node.attributes.steps[i] != 1;
}

}  // namespace

void reshape_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  if (element_count(graph.dims(node.inputs[0])) != element_count(node.attributes.dims)) {
    throw Error(ErrorCode::shape, "expected as many elements in " + to_string(node.attributes.dims));
  }
  outputs[0].dims = node.attributes.dims;
}

// Finds the axis of the result whose extent holds the examples: outer B inner with the same products before and after.
BatchAxis reshape_batch(const Graph& graph, const Node& node) {
  const BatchAxis batch = graph.value(node.inputs[0]).batch;
  if (!batch.present()) return batch;
  const Dims &from = graph.dims(node.inputs[0]), &to = node.attributes.dims;
  int64_t outer = batch.outer, inner = batch.inner;
  for (int32_t i = 0; i < static_cast<int32_t>(from.size()); ++i) {
    if (i < batch.axis) outer *= from[static_cast<size_t>(i)];
    if (i > batch.axis) inner *= from[static_cast<size_t>(i)];
  }
  const int64_t examples = graph.batch();
  int64_t before = 1;
  for (size_t axis = 0; axis < to.size(); ++axis) {
    int64_t after = 1;
    for (size_t i = axis + 1; i < to.size(); ++i) after *= to[i];
    if (before > 0 && after > 0 && outer % before == 0 && inner % after == 0 &&
        to[axis] == outer / before * examples * (inner / after)) {
      return {static_cast<int32_t>(axis), outer / before, inner / after};
    }
    before *= to[axis];
  }
  return {BatchAxis::mixed, 1, 1};
}

void reshape_forward(const Node&, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  if (in[0].data == out[0].data) return;  // planned as the same memory
  Tensor x = in[0];
  x.dims = out[0].dims;
  x.strides = out[0].strides;
  backend.copy(x, out[0]);
}

void reshape_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = graph.reshape(y_bar, graph.dims(node.inputs[0]));
}

ValueId reshape_squares_through(Graph& graph, const Node& node, ValueId s, int) {
  return graph.reshape(s, graph.dims(node.inputs[0]));
}

void transpose_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = graph.dims(node.inputs[0]);
  const Dims& perm = node.attributes.perm;
  std::vector<bool> seen(x.size());
  if (perm.size() != x.size())
    throw Error(ErrorCode::shape, "expected a permutation of all axes, got " + to_string(perm));
  for (int64_t axis : perm) {
    if (axis < 0 || axis >= static_cast<int64_t>(x.size()) || seen[static_cast<size_t>(axis)]) {
      throw Error(ErrorCode::shape, "expected a permutation of all axes, got " + to_string(perm));
    }
    seen[static_cast<size_t>(axis)] = true;
    outputs[0].dims.push_back(x[static_cast<size_t>(axis)]);
  }
}

BatchAxis transpose_batch(const Graph& graph, const Node& node) {
  BatchAxis batch = graph.value(node.inputs[0]).batch;
  if (!batch.present()) return batch;
  const Dims& perm = node.attributes.perm;
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] == batch.axis) return {static_cast<int32_t>(i), batch.outer, batch.inner};
  }
  return batch;
}

void transpose_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  Tensor x = in[0];
  for (size_t i = 0; i < x.dims.size(); ++i) {
    x.dims[i] = in[0].dims[static_cast<size_t>(node.attributes.perm[i])];
    x.strides[i] = in[0].strides[static_cast<size_t>(node.attributes.perm[i])];
  }
  backend.copy(x, out[0]);
}

namespace {

Dims inverse(const Dims& perm) {
  Dims back(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) back[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  return back;
}

}  // namespace

void transpose_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = graph.transpose(y_bar, inverse(node.attributes.perm));
}

ValueId transpose_squares_through(Graph& graph, const Node& node, ValueId s, int) {
  return graph.transpose(s, inverse(node.attributes.perm));
}

void expand_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = graph.dims(node.inputs[0]);
  if (broadcast_dims(x, node.attributes.dims) != node.attributes.dims) {
    throw Error(ErrorCode::shape, "expected a shape that broadcasts to " + to_string(node.attributes.dims));
  }
  outputs[0].dims = node.attributes.dims;
}

BatchAxis expand_batch(const Graph& graph, const Node& node) {
  BatchAxis batch = graph.value(node.inputs[0]).batch;
  if (batch.present()) {
    batch.axis += static_cast<int32_t>(node.attributes.dims.size() - graph.dims(node.inputs[0]).size());
  }
  return batch;
}

void expand_forward(const Node&, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  Tensor x = in[0];
  x.strides = broadcast_strides(in[0].dims, in[0].strides, out[0].dims);
  x.dims = out[0].dims;
  backend.copy(x, out[0]);
}

void expand_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = graph.sum_to(y_bar, graph.dims(node.inputs[0]));
}

void concat_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  Dims dims = graph.dims(node.inputs[0]);
  const size_t axis = static_cast<size_t>(node.attributes.axis);
  if (axis >= dims.size()) throw Error(ErrorCode::shape, "expected an axis of the inputs");
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    Dims other = graph.dims(node.inputs[i]);
    if (other.size() != dims.size()) throw Error(ErrorCode::shape, "expected inputs of one rank");
    const int64_t extent = other[axis];
    other[axis] = dims[axis];
    if (other != dims) throw Error(ErrorCode::shape, "expected inputs that agree off the axis");
    dims[axis] += extent;
    element_count(dims);
  }
  outputs[0].dims = dims;
}

BatchAxis concat_batch(const Graph& graph, const Node& node) {
  BatchAxis found;
  for (ValueId input : node.inputs) {
    const BatchAxis batch = graph.value(input).batch;
    if (batch.axis == BatchAxis::absent) continue;
    if (batch.axis == node.attributes.axis || (found.axis != BatchAxis::absent && found != batch)) {
      return {BatchAxis::mixed, 1, 1};
    }
    found = batch;
  }
  return found;
}

void concat_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  const size_t axis = static_cast<size_t>(node.attributes.axis);
  Dims starts(out[0].dims.size(), 0);
  const Dims steps(out[0].dims.size(), 1);
  for (const Tensor& x : in) {
    backend.copy(x, view(out[0], starts, steps, x.dims));
    starts[axis] += x.dims[axis];
  }
}

ValueId concat_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  std::vector<ValueId> parts(x_dot.begin(), x_dot.end());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] != none) continue;
    Attributes zeros;
    zeros.alpha = 0;
    zeros.dims = graph.dims(node.inputs[i]);
    parts[i] = graph.append(Op::ConstantOfShape, {}, zeros);
  }
  return graph.append(Op::Concat, parts, node.attributes);
}

void concat_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  const size_t axis = static_cast<size_t>(node.attributes.axis);
  const size_t rank = graph.dims(y_bar).size();
  Attributes slice;
  slice.starts = Dims(rank, 0);
  slice.steps = Dims(rank, 1);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    slice.dims = graph.dims(node.inputs[i]);
    if (wanted[i]) x_bar[i] = graph.append(Op::Slice, {y_bar}, slice);
    slice.starts[axis] += slice.dims[axis];
  }
}

void slice_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Attributes& at = node.attributes;
  check_slice(graph.dims(node.inputs[0]), at.starts, at.steps, at.dims);
  outputs[0].dims = at.dims;
}

BatchAxis slice_batch(const Graph& graph, const Node& node) {
  const BatchAxis batch = graph.value(node.inputs[0]).batch;
  if (batch.present() && slices_axis(graph.dims(node.inputs[0]), node, node.attributes.dims, batch.axis)) {
    return {BatchAxis::mixed, 1, 1};
  }
  return batch;
}

void slice_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.copy(view(in[0], node.attributes.starts, node.attributes.steps, out[0].dims), out[0]);
}

void slice_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  Attributes attributes = node.attributes;
  attributes.dims = graph.dims(node.inputs[0]);
  x_bar[0] = graph.append(Op::Unslice, {y_bar}, attributes);
}

ValueId slice_squares_through(Graph& graph, const Node& node, ValueId s, int) {
  Attributes attributes = node.attributes;
  attributes.dims = graph.dims(node.inputs[0]);
  return graph.append(Op::Unslice, {s}, attributes);
}

// y of attribute dims, zero but for the slice that x fills.
void unslice_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Attributes& at = node.attributes;
  check_slice(at.dims, at.starts, at.steps, graph.dims(node.inputs[0]));
  outputs[0].dims = at.dims;
}

void unslice_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.fill(out[0], 0);
  backend.copy(in[0], view(out[0], node.attributes.starts, node.attributes.steps, in[0].dims));
}

void unslice_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  Attributes attributes = node.attributes;
  attributes.dims = graph.dims(node.inputs[0]);
  x_bar[0] = graph.append(Op::Slice, {y_bar}, attributes);
}

void constant_shape(const Graph&, const Node& node, std::vector<Value>& outputs) {
  outputs[0].dims = node.attributes.dims;
}

BatchAxis constant_batch(const Graph&, const Node&) { return {}; }

void constant_forward(const Node& node, Backend& backend, std::span<const Tensor>, std::span<const Tensor> out) {
  backend.fill(out[0], node.attributes.alpha);
}

}  // namespace palimpsest::structure
