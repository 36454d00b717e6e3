// The linearised network as a description again.
#include "curvature/linearized.h"

#include "core/error.h"
#include "graph/derivative.h"
#include "graph/schedule.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

// A batch size that no other dimension is a multiple of: its multiples are batch dimensions.
constexpr int64_t symbolic_batch = 1000003;

void open_batch(Dims& dims) {
  for (int64_t& d : dims) {
    if (d != 0 && d % symbolic_batch == 0) d = -(d / symbolic_batch);
  }
}

void refuse_clash(const Dims& dims) {
  for (int64_t d : dims) {
    if (d != 0 && d % symbolic_batch == 0) {
      throw Error(ErrorCode::unsupported, "a dimension that is a multiple of 1000003 cannot be told from the batch");
    }
  }
}

LeafDescription leaf_of(const Graph& graph, ValueId id, const Network& network) {
  const Value& value = graph.value(id);
  LeafDescription leaf;
  leaf.source = value.source;
  leaf.id = id;
  leaf.dims = value.dims;
  if (value.source == Source::parameter || value.source == Source::tangent) {
    leaf.name = network.layout().entries()[static_cast<size_t>(value.index)].name;
  }
  if (value.source == Source::constant) {
    const Constant& constant = network.constants()[static_cast<size_t>(value.index)];
    leaf.name = constant.name;
    leaf.data = constant.data;
  }
  return leaf;
}

}  // namespace

NetworkDescription linearized_description(const Network& network, const std::vector<bool>& parameters) {
  refuse_clash(network.description().input_shape);
  for (const ParameterEntry& entry : network.layout().entries()) refuse_clash(entry.dims);
  InstantiatedGraph made = network.instantiate({symbolic_batch, false});
  Graph& graph = made.graph;
  std::vector<std::pair<ValueId, ValueId>> seeds;
  for (size_t i = 0; i < made.parameters.size(); ++i) {
    if (!parameters[i]) continue;
    const ValueId parameter = made.parameters[i];
    seeds.emplace_back(parameter, graph.add_tangent(static_cast<int32_t>(i), graph.dims(parameter)));
  }
  const std::vector<ValueId> tangents = linearise(graph, seeds);
  const ValueId output = graph.add(made.logits, tangents[static_cast<size_t>(made.logits)]);

  NetworkDescription description;
  description.input_shape = network.description().input_shape;
  description.classes = network.description().classes;
  description.output = output;
  std::vector<char> used(static_cast<size_t>(graph.value_count()), 0);
  for (const Pass& pass : schedule(graph, {output}, false)) {
    const Node& node = graph.node(pass.nodes[0]);
    NodeDescription out{row_of(node.op).name, node.inputs, node.outputs, node.attributes};
    open_batch(out.attributes.dims);
    description.nodes.push_back(std::move(out));
    for (ValueId id : node.inputs) used[static_cast<size_t>(id)] = 1;
  }
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    const Source source = graph.value(id).source;
    const bool kept = source == Source::input || used[static_cast<size_t>(id)] != 0;
    if (source != Source::computed && kept) description.leaves.push_back(leaf_of(graph, id, network));
  }
  return description;
}

}  // namespace palimpsest
