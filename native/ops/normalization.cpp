// BatchNormalizationTraining: y = (x - mean) rstd with the batch's own statistics over all axes but 1.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::normalization {

// (y, mean [C], rstd [C])
void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims& x = graph.dims(node.inputs[0]);
  if (x.size() != 2 && x.size() != 4) throw Error(ErrorCode::shape, "expected x [N, C] or [N, C, H, W]");
  if (element_count(x) / (x[1] > 0 ? x[1] : 1) < 2) {
    throw Error(ErrorCode::shape, "expected more than one value per channel in training mode");
  }
  outputs[0].dims = x;
  outputs[1].dims = outputs[2].dims = {x[1]};
}

BatchAxis batch(const Graph&, const Node&) { return {BatchAxis::mixed, 1, 1}; }

namespace {

// [C] seen as [1, C, 1, 1]
Tensor along_channels(const Tensor& v, const Tensor& x) {
  Tensor t = v;
  t.dims = x.dims;
  t.strides = Dims(x.dims.size(), 0);
  t.strides[1] = 1;
  return t;
}

}  // namespace

void forward(const Node& node, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.batch_norm_statistics(in[0], node.attributes.epsilon, out[1], out[2]);
  static const ElementwiseProgram program = [] {
    ElementwiseProgram p;
    p.inputs = 3;
    p.instructions.resize(2);
    p.instructions[0].code = Code::sub, p.instructions[0].a = 0, p.instructions[0].b = 1;
    p.instructions[1].code = Code::mul, p.instructions[1].a = 3, p.instructions[1].b = 2;
    p.outputs = {4};
    return p;
  }();
  const Tensor inputs[3] = {in[0], along_channels(out[1], in[0]), along_channels(out[2], in[0])};
  backend.elementwise(program, inputs, out.subspan(0, 1));
}

namespace {

// N(t) = rstd (t - mean t - y mean(y t)): the Jacobian of the normalisation, which is symmetric.
ValueId jacobian(Graph& graph, const Node& node, ValueId t) {
  const ValueId y = node.outputs[0];
  const Dims x = graph.dims(y);
  Dims channel(x.size(), 1);
  channel[1] = x[1];
  Attributes mean;
  for (size_t i = 0; i < x.size(); ++i) {
    if (i != 1) mean.axes.push_back(static_cast<int64_t>(i));
  }
  mean.alpha = static_cast<double>(x[1]) / static_cast<double>(element_count(x));
  const ValueId mean_t = graph.append(Op::ReduceSum, {t}, mean);
  const ValueId mean_yt = graph.append(Op::ReduceSum, {graph.mul(y, t)}, mean);
  const ValueId centred = graph.append(Op::Sub, {graph.append(Op::Sub, {t, mean_t}), graph.mul(y, mean_yt)});
  return graph.mul(centred, graph.reshape(node.outputs[2], channel));
}

}  // namespace

ValueId jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  return x_dot[0] == none ? none : jacobian(graph, node, x_dot[0]);
}

void vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = jacobian(graph, node, y_bar);
}

// Of each element: the sum, its difference squared and summed (3), the difference and the product of the result. x is
// read three times.
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  const double count = static_cast<double>(element_count(graph.dims(node.inputs[0])));
  c.flops = 6 * count;
  c.bytes += 2 * count;
  return c;
}

}  // namespace palimpsest::normalization
