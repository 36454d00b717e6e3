// Max and average pooling over windows of x [N, C, H, W], with the rows that are their tangents and adjoints.
#include "core/error.h"
#include "ops/rules.h"
#include "ops/window.h"

namespace palimpsest::pool {

namespace {

ConvShape pool_shape(const Node& node, const Dims& x, const Dims& y) {
  return window_shape(node.attributes, x, y, node.attributes.kernel);
}

// A window of pads alone has no maximum. The first and the last window of an axis reach furthest into the pads; taps
// further apart than the axis is long could miss it in between.
void check_covered(const Attributes& at, const Dims& x, const Dims& y) {
  for (size_t i = 0; i < 2; ++i) {
    const int64_t pad = at.pads.empty() ? 0 : at.pads[i];
    const int64_t stride = at.strides.empty() ? 1 : at.strides[i],
                  dilation = at.dilations.empty() ? 1 : at.dilations[i];
    const bool first = (at.kernel[i] - 1) * dilation >= pad, last = (y[2 + i] - 1) * stride - pad < x[2 + i];
    if (first && last && (pad == 0 || dilation <= x[2 + i])) continue;
    throw Error(ErrorCode::shape, "expected windows that each reach the image, got kernel " + to_string(at.kernel) +
                                      " on " + to_string(x) + " with pads " + to_string(at.pads));
  }
}

// The image whose maxima an index points at; another image of other sizes would be read outside its bounds.
void check_index(const Graph& graph, ValueId index, const Dims& x) {
  const Node& maximum = graph.node(graph.value(index).node);
  const Dims& from = graph.dims(maximum.inputs[0]);
  if (maximum.op != Op::MaxPool || from != x) {
    throw Error(ErrorCode::shape, "expected positions from a MaxPool of " + to_string(x) + ", got " +
                                      row_of(maximum.op).name + " of " + to_string(from));
  }
}

ValueId emit(Graph& graph, Op op, std::vector<ValueId> inputs, const Attributes& like, const Dims& dims) {
  Attributes attributes = like;
  attributes.dims = dims;
  return graph.append(op, std::move(inputs), attributes);
}

}  // namespace

// MaxPool: (y, index of the maximum as h W + w); AveragePool: y
void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = graph.dims(node.inputs[0]);
  if (x.size() != 4) throw Error(ErrorCode::shape, "expected x [N, C, H, W]");
  for (Value& output : outputs) output.dims = window_output(node.attributes, x, node.attributes.kernel, x[1]);
  if (node.op != Op::MaxPool) return;
  check_covered(node.attributes, x, outputs[0].dims);
  outputs[1].is_index = true;
}

// PoolGather(x, index): y = x[index] within each channel; linear in x
void gather_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = graph.dims(node.inputs[0]);
  if (x.size() != 4) throw Error(ErrorCode::shape, "expected x [N, C, H, W]");
  const Dims y = window_output(node.attributes, x, node.attributes.kernel, x[1]);
  if (y != graph.dims(node.inputs[1])) throw Error(ErrorCode::shape, "expected an index of shape " + to_string(y));
  check_index(graph, node.inputs[1], x);
  outputs[0].dims = y;
}

// The adjoints give x_bar of attribute dims from y_bar (and index).
void adjoint_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = node.attributes.dims;
  if (x.size() != 4) throw Error(ErrorCode::shape, "expected the dimensions of x [N, C, H, W]");
  const Dims y = window_output(node.attributes, x, node.attributes.kernel, x[1]);
  for (ValueId input : node.inputs) {
    if (graph.dims(input) != y) throw Error(ErrorCode::shape, "expected inputs of shape " + to_string(y));
  }
  if (node.op == Op::PoolScatter) check_index(graph, node.inputs[1], x);
  outputs[0].dims = x;
}

void max_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.max_pool(pool_shape(node, in[0].dims, out[0].dims), in[0], out[0], out[1]);
}

void gather_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.pool_gather(pool_shape(node, in[0].dims, out[0].dims), in[0], in[1], out[0]);
}

void scatter_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.pool_scatter(pool_shape(node, out[0].dims, in[0].dims), in[0], in[1], out[0]);
}

void average_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.average_pool(pool_shape(node, in[0].dims, out[0].dims), node.attributes.count_pads, in[0], out[0]);
}

void average_gradient_forward(const Node& node, Backend& backend, std::span<const Tensor> in,
                              std::span<const Tensor> out) {
  backend.average_pool_gradient(pool_shape(node, out[0].dims, in[0].dims), node.attributes.count_pads, in[0], out[0]);
}

ValueId max_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  if (x_dot[0] == none) return none;
  return emit(graph, Op::PoolGather, {x_dot[0], node.outputs[1]}, node.attributes, {});
}

void max_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = emit(graph, Op::PoolScatter, {y_bar, node.outputs[1]}, node.attributes, graph.dims(node.inputs[0]));
}

void gather_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  if (!wanted[0]) return;
  x_bar[0] = emit(graph, Op::PoolScatter, {y_bar, node.inputs[1]}, node.attributes, graph.dims(node.inputs[0]));
}

void scatter_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted,
                 std::span<ValueId> x_bar) {
  if (wanted[0]) x_bar[0] = emit(graph, Op::PoolGather, {y_bar, node.inputs[1]}, node.attributes, {});
}

void average_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = emit(graph, Op::AveragePoolGradient, {y_bar}, node.attributes, graph.dims(node.inputs[0]));
}

void average_gradient_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>,
                          std::span<ValueId> x_bar) {
  x_bar[0] = emit(graph, Op::AveragePool, {y_bar}, node.attributes, {});
}

BatchAxis batch(const Graph& graph, const Node& node) {
  const BatchAxis batch = graph.value(node.inputs[0]).batch;
  return batch.axis >= 2 ? BatchAxis{BatchAxis::mixed, 1, 1} : batch;
}

// A comparison or a sum for each place of each window
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  const Dims& kernel = node.attributes.kernel;
  const ValueId windows = node.op == Op::AveragePoolGradient ? node.inputs[0] : node.outputs[0];
  c.flops = static_cast<double>(element_count(graph.dims(windows))) * static_cast<double>(kernel[0] * kernel[1]);
  return c;
}

}  // namespace palimpsest::pool
