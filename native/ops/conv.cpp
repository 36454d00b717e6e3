// Convolution y = x * w, its two adjoints (closed under differentiation), and its per-example squares.
#include "core/error.h"
#include "ops/rules.h"
#include "ops/window.h"

namespace palimpsest::conv {

namespace {

ConvShape conv_shape(const Attributes& at, const Dims& x, const Dims& w, const Dims& y) {
  ConvShape s = window_shape(at, x, y, {w[2], w[3]});
  s.o = w[0];
  s.groups = at.group;
  return s;
}

void check(const Attributes& at, const Dims& x, const Dims& w) {
  if (x.size() != 4 || w.size() != 4)
    throw Error(ErrorCode::shape, "expected x [N, C, H, W] and w [O, C/groups, KH, KW]");
  if (at.group < 1 || x[1] % at.group != 0 || x[1] / at.group != w[1] || w[0] % at.group != 0) {
    throw Error(ErrorCode::shape, "expected channels that fit " + std::to_string(at.group) + " groups");
  }
}

}  // namespace

void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims &x = graph.dims(node.inputs[0]), &w = graph.dims(node.inputs[1]);
  check(node.attributes, x, w);
  outputs[0].dims = window_output(node.attributes, x, {w[2], w[3]}, w[0]);
}

// (y_bar, w) -> x_bar of attribute dims
void input_gradient_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims &y = graph.dims(node.inputs[0]), &w = graph.dims(node.inputs[1]), &x = node.attributes.dims;
  check(node.attributes, x, w);
  if (window_output(node.attributes, x, {w[2], w[3]}, w[0]) != y)
    throw Error(ErrorCode::shape, "expected y_bar of the convolution's shape");
  outputs[0].dims = x;
}

// (x, y_bar) -> w_bar of attribute dims
void weight_gradient_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims &x = graph.dims(node.inputs[0]), &y = graph.dims(node.inputs[1]), &w = node.attributes.dims;
  check(node.attributes, x, w);
  if (window_output(node.attributes, x, {w[2], w[3]}, w[0]) != y)
    throw Error(ErrorCode::shape, "expected y_bar of the convolution's shape");
  outputs[0].dims = w;
}

BatchAxis batch(const Graph& graph, const Node& node) {
  const BatchAxis batch = graph.value(node.inputs[0]).batch;
  const bool weight_moves = graph.value(node.inputs[1]).batch.axis != BatchAxis::absent;
  if (weight_moves || (batch.present() && batch.axis != 0)) return {BatchAxis::mixed, 1, 1};
  return batch;
}

void forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.conv(conv_shape(node.attributes, in[0].dims, in[1].dims, out[0].dims), in[0], in[1], out[0]);
}

void forward_epilogue(const Node& node, Backend& backend, std::span<const Tensor> in, const Tensor& y,
                      const Epilogue& epilogue) {
  backend.conv_epilogue(conv_shape(node.attributes, in[0].dims, in[1].dims, y.dims), in[0], in[1], y, epilogue);
}

void input_gradient_forward(const Node& node, Backend& backend, std::span<const Tensor> in,
                            std::span<const Tensor> out) {
  backend.conv_input_gradient(conv_shape(node.attributes, out[0].dims, in[1].dims, in[0].dims), in[1], in[0], out[0]);
}

void weight_gradient_forward(const Node& node, Backend& backend, std::span<const Tensor> in,
                             std::span<const Tensor> out) {
  backend.conv_weight_gradient(conv_shape(node.attributes, in[0].dims, out[0].dims, in[1].dims), in[0], in[1], out[0]);
}

void squares_forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.conv_grad_squares(conv_shape(node.attributes, in[0].dims, out[0].dims, in[1].dims), in[0], in[1], out[0]);
}

namespace {

ValueId emit(Graph& graph, Op op, ValueId a, ValueId b, const Attributes& like, const Dims& dims) {
  Attributes attributes = like;
  attributes.dims = dims;
  return graph.append(op, {a, b}, attributes);
}

}  // namespace

// <y_bar, C(x, w)> = <CI(y_bar, w), x> = <CW(x, y_bar), w>
void vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  const ValueId x = node.inputs[0], w = node.inputs[1];
  if (wanted[0]) x_bar[0] = emit(graph, Op::ConvInputGradient, y_bar, w, node.attributes, graph.dims(x));
  if (wanted[1]) x_bar[1] = emit(graph, Op::ConvWeightGradient, x, y_bar, node.attributes, graph.dims(w));
}

// CI(y, w): <z, CI(y, w)> = <C(z, w), y> = <CW(z, y), w>
void input_gradient_vjp(Graph& graph, const Node& node, ValueId z, std::span<const bool> wanted,
                        std::span<ValueId> x_bar) {
  const ValueId y = node.inputs[0], w = node.inputs[1];
  if (wanted[0]) x_bar[0] = emit(graph, Op::Conv, z, w, node.attributes, {});
  if (wanted[1]) x_bar[1] = emit(graph, Op::ConvWeightGradient, z, y, node.attributes, graph.dims(w));
}

// CW(x, y): <z, CW(x, y)> = <CI(y, z), x> = <C(x, z), y>
void weight_gradient_vjp(Graph& graph, const Node& node, ValueId z, std::span<const bool> wanted,
                         std::span<ValueId> x_bar) {
  const ValueId x = node.inputs[0], y = node.inputs[1];
  if (wanted[0]) x_bar[0] = emit(graph, Op::ConvInputGradient, y, z, node.attributes, graph.dims(x));
  if (wanted[1]) x_bar[1] = emit(graph, Op::Conv, x, z, node.attributes, {});
}

ValueId squares(Graph& graph, const Node& node, ValueId y_bar, int which) {
  const BatchAxis batch = graph.value(node.outputs[0]).batch;
  if (which != 1 || !batch.present() || batch.inner != 1 || batch.outer != 1) return none;
  return emit(graph, Op::ConvGradientSquares, node.inputs[0], y_bar, node.attributes, graph.dims(node.inputs[1]));
}

// 2 N OH OW O (C / groups) KH KW, pads counted as if they were multiplied
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  const bool forward = node.op == Op::Conv, to_input = node.op == Op::ConvInputGradient;
  const Dims& w = forward || to_input ? graph.dims(node.inputs[1]) : graph.dims(node.outputs[0]);
  const Dims& y = forward ? graph.dims(node.outputs[0]) : graph.dims(node.inputs[to_input ? 0 : 1]);
  c.flops = 2.0 * static_cast<double>(element_count(y)) * static_cast<double>(w[1] * w[2] * w[3]);
  return c;
}

// The same, then a square and a sum for each of an example's N gradients
Cost squares_cost(const Graph& graph, const Node& node) {
  Cost c = cost(graph, node);
  const int64_t n = graph.dims(node.inputs[0])[0];
  c.flops += 2.0 * static_cast<double>(n * element_count(graph.dims(node.outputs[0])));
  return c;
}

}  // namespace palimpsest::conv
