// Shape, batch and cost rules that several families share.
#include "ops/rules.h"

namespace palimpsest {

void same_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  outputs[0].dims = graph.dims(node.inputs[0]);
}

BatchAxis same_batch(const Graph& graph, const Node& node) { return graph.value(node.inputs[0]).batch; }

BatchAxis broadcast_batch(const Graph& graph, const Node& node) {
  const int32_t rank = static_cast<int32_t>(graph.dims(node.outputs[0]).size());
  BatchAxis found;
  for (ValueId input : node.inputs) {
    BatchAxis batch = graph.value(input).batch;
    if (batch.axis == BatchAxis::absent) continue;
    if (batch.axis == BatchAxis::mixed) return batch;
    const Dims& dims = graph.dims(input);
    batch.axis += rank - static_cast<int32_t>(dims.size());
    if (found.axis != BatchAxis::absent && found != batch) return {BatchAxis::mixed, 1, 1};
    found = batch;
  }
  return found;
}

BatchAxis batch_off_axis(const Graph& graph, const Node& node) {
  const BatchAxis batch = graph.value(node.inputs[0]).batch;
  if (!batch.present()) return batch;
  bool worked_on = false;
  if (node.op == Op::ReduceSum) {
    for (int64_t axis : node.attributes.axes) worked_on = worked_on || axis == batch.axis;
  } else {
    worked_on = node.attributes.axis == batch.axis;
  }
  return worked_on ? BatchAxis{BatchAxis::mixed, 1, 1} : batch;
}

namespace {

void add_traffic(const Graph& graph, ValueId id, Cost& cost) {
  const double count = static_cast<double>(element_count(graph.dims(id)));
  (graph.value(id).is_index ? cost.index_bytes : cost.bytes) += graph.value(id).is_index ? 4 * count : count;
}

}  // namespace

Cost no_cost(const Graph&, const Node&) { return {}; }

Cost traffic_cost(const Graph& graph, const Node& node) {
  Cost cost;
  for (ValueId id : node.inputs) add_traffic(graph, id, cost);
  for (ValueId id : node.outputs) add_traffic(graph, id, cost);
  return cost;
}

// Of input 0 only what the result takes is read: as many elements as are written.
Cost selection_cost(const Graph& graph, const Node& node) {
  Cost cost;
  for (size_t i = 1; i < node.inputs.size(); ++i) add_traffic(graph, node.inputs[i], cost);
  cost.bytes += 2 * static_cast<double>(element_count(graph.dims(node.outputs[0])));
  return cost;
}

// One operation an element of the result: a sum, a product, or one value of a function.
Cost elementwise_cost(const Graph& graph, const Node& node) {
  Cost cost = traffic_cost(graph, node);
  cost.flops = static_cast<double>(element_count(graph.dims(node.outputs[0])));
  return cost;
}

// One operation an element of input 0: a sum, or a comparison.
Cost reduction_cost(const Graph& graph, const Node& node) {
  Cost cost = traffic_cost(graph, node);
  cost.flops = static_cast<double>(element_count(graph.dims(node.inputs[0])));
  return cost;
}

}  // namespace palimpsest
