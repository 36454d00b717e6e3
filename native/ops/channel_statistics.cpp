// ChannelStatistics: how strongly each channel responds to each class (Wang 2022); has no derivative.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::channel_statistics {

// x [N, C, H, W], labels [N, K] (a row counts for the classes that are not 0) to sums [3, K, C], parts of one sum.
void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims &x = graph.dims(node.inputs[0]), &labels = graph.dims(node.inputs[1]);
  if (x.size() != 4 || x[2] * x[3] < 1)
    throw Error(ErrorCode::shape, "expected x [N, C, H, W] with a position or more");
  if (labels.size() != 2 || labels[0] != x[0]) throw Error(ErrorCode::shape, "expected labels [N, K] of x's rows");
  outputs[0].dims = {3, labels[1], x[1]};
}

BatchAxis batch(const Graph&, const Node&) { return {BatchAxis::mixed, 1, 1}; }

void forward(const Node&, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  backend.channel_statistics(in[0], in[1], out[0]);
}

// A maximum and a sum for each element of x.
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  c.flops = 2.0 * static_cast<double>(element_count(graph.dims(node.inputs[0])));
  return c;
}

}  // namespace palimpsest::channel_statistics
