// Linearisation and transposition of graphs.
#include "graph/derivative.h"

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

// Rows differentiate their first output. Positions have no derivative; the statistics of a batch normalisation have
// one, and where it would be needed (second derivatives in training mode) it must not be taken for zero.
[[noreturn]] void refuse_second_output(const Node& node) {
  throw Error(ErrorCode::unsupported, std::string("the derivative of the second and further results of ") +
                                          row_of(node.op).name + " is not offered");
}

// Throws where the graph as it stands goes on from a further result that moves.
void check_further_results(const Graph& graph, const Node& node, const std::vector<char>& read) {
  for (size_t k = 1; k < node.outputs.size(); ++k) {
    const ValueId id = node.outputs[k];
    if (!graph.value(id).is_index && read[static_cast<size_t>(id)] != 0) refuse_second_output(node);
  }
}

}  // namespace

std::vector<ValueId> linearise(Graph& graph, std::span<const std::pair<ValueId, ValueId>> seeds) {
  const int32_t nodes = graph.node_count();
  std::vector<ValueId> tangents(static_cast<size_t>(graph.value_count()), none);
  for (auto [value, tangent] : seeds) tangents[static_cast<size_t>(value)] = tangent;
  std::vector<char> read(tangents.size(), 0);
  for (int32_t i = 0; i < nodes; ++i) {
    for (ValueId input : graph.node(i).inputs) read[static_cast<size_t>(input)] = 1;
  }
  std::vector<ValueId> x_dot;
  for (int32_t i = 0; i < nodes; ++i) {
    const Node& node = graph.node(i);
    x_dot.clear();
    for (ValueId input : node.inputs) x_dot.push_back(tangents[static_cast<size_t>(input)]);
    const ValueId y_dot = jvp_of(graph, node, x_dot);
    if (y_dot != none) check_further_results(graph, node, read);
    tangents[static_cast<size_t>(node.outputs[0])] = y_dot;
  }
  return tangents;
}

namespace {

// Which values of the graph depend on any of `from`.
std::vector<char> dependents(const Graph& graph, std::span<const ValueId> from) {
  std::vector<char> depends(static_cast<size_t>(graph.value_count()), 0);
  for (ValueId id : from) {
    if (id != none) depends[static_cast<size_t>(id)] = 1;
  }
  for (int32_t i = 0; i < graph.node_count(); ++i) {
    const Node& node = graph.node(i);
    const bool any = std::any_of(node.inputs.begin(), node.inputs.end(),
                                 [&](ValueId id) { return depends[static_cast<size_t>(id)] != 0; });
    for (ValueId id : node.outputs) depends[static_cast<size_t>(id)] |= static_cast<char>(any);
  }
  return depends;
}

// Walks the graph backwards; `wants` says of each value whether its cotangent is needed.
std::vector<ValueId> pull_back(Graph& graph, std::span<const std::pair<ValueId, ValueId>> seeds,
                               const std::vector<char>& wants) {
  const int32_t nodes = graph.node_count();
  std::vector<ValueId> bars(wants.size(), none);
  for (auto [value, bar] : seeds) bars[static_cast<size_t>(value)] = graph.add(bars[static_cast<size_t>(value)], bar);
  std::vector<ValueId> x_bar;
  for (int32_t i = nodes - 1; i >= 0; --i) {
    const Node& node = graph.node(i);
    for (size_t k = 1; k < node.outputs.size(); ++k) {
      if (bars[static_cast<size_t>(node.outputs[k])] != none) refuse_second_output(node);
    }
    const ValueId y_bar = bars[static_cast<size_t>(node.outputs[0])];
    if (y_bar == none) continue;
    const size_t count = node.inputs.size();
    const std::unique_ptr<bool[]> wanted(new bool[count + 1]);
    bool any = false;
    for (size_t k = 0; k < count; ++k) {
      wanted[k] = wants[static_cast<size_t>(node.inputs[k])] != 0;
      any = any || wanted[k];
    }
    if (!any) continue;
    x_bar.assign(count, none);
    vjp_of(graph, node, y_bar, {wanted.get(), count}, x_bar);
    for (size_t k = 0; k < count; ++k) {
      if (!wanted[k]) continue;
      ValueId& bar = bars[static_cast<size_t>(node.inputs[k])];
      bar = graph.add(bar, x_bar[k]);
    }
  }
  return bars;
}

}  // namespace

std::vector<ValueId> transpose(Graph& graph, std::span<const std::pair<ValueId, ValueId>> seeds,
                               std::span<const ValueId> wanted) {
  const std::vector<ValueId> bars = pull_back(graph, seeds, dependents(graph, wanted));
  std::vector<ValueId> out;
  for (ValueId id : wanted) out.push_back(id == none ? none : bars[static_cast<size_t>(id)]);
  return out;
}

namespace {

// A parameter's way into the network: through rows that only rearrange or scale it, to the one row that uses it.
struct Use {
  int32_t node = -1;
  int which = 0;
  std::vector<std::pair<int32_t, int>> through;  // (node, input) from the parameter on
};

struct Consumer {
  int32_t node;
  int which;
};

std::vector<std::vector<Consumer>> consumers_of(const Graph& graph, ValueId output) {
  // Only what the output depends on counts as a use.
  std::vector<char> live(static_cast<size_t>(graph.value_count()), 0);
  live[static_cast<size_t>(output)] = 1;
  std::vector<std::vector<Consumer>> consumers(live.size());
  for (int32_t i = graph.node_count() - 1; i >= 0; --i) {
    const Node& node = graph.node(i);
    const bool used = std::any_of(node.outputs.begin(), node.outputs.end(),
                                  [&](ValueId id) { return live[static_cast<size_t>(id)] != 0; });
    if (!used) continue;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      live[static_cast<size_t>(node.inputs[k])] = 1;
      consumers[static_cast<size_t>(node.inputs[k])].push_back({i, static_cast<int>(k)});
    }
  }
  return consumers;
}

// False where the parameter has several uses or its way holds a row that squares cannot pass.
bool find_use(const Graph& graph, const std::vector<std::vector<Consumer>>& consumers, ValueId parameter, Use& use) {
  ValueId at = parameter;
  for (;;) {
    const auto& next = consumers[static_cast<size_t>(at)];
    if (next.size() != 1) return false;
    const Node& node = graph.node(next[0].node);
    const Row& row = row_of(node.op);
    if (graph.value(node.outputs[0]).batch.axis != BatchAxis::absent) {
      use.node = next[0].node;
      use.which = next[0].which;
      return row.squares != nullptr;
    }
    // Scaling by another parameter is passed too: for this parameter's square the other one is a constant.
    if (row.squares_through == nullptr) return false;
    use.through.emplace_back(next[0].node, next[0].which);
    at = node.outputs[0];
  }
}

// Emits s back through the rows that rearrange the parameter; none where one refuses.
ValueId pass_back(Graph& graph, const Use& use, ValueId s) {
  for (size_t i = use.through.size(); i-- > 0 && s != none;) {
    const Node& node = graph.node(use.through[i].first);
    s = row_of(node.op).squares_through(graph, node, s, use.through[i].second);
  }
  return s;
}

}  // namespace

std::vector<ValueId> square_gradients(Graph& graph, ValueId output, ValueId cotangent,
                                      std::span<const ValueId> parameters) {
  const auto consumers = consumers_of(graph, output);
  // Cotangents of activations only: a parameter's own cotangent is never formed.
  std::vector<char> wants = dependents(graph, parameters);
  for (int32_t id = 0; id < static_cast<int32_t>(wants.size()); ++id) {
    if (!graph.value(id).batch.present()) wants[static_cast<size_t>(id)] = 0;
  }
  const std::pair<ValueId, ValueId> seed = {output, cotangent};
  const std::vector<ValueId> bars = pull_back(graph, {&seed, 1}, wants);
  std::vector<ValueId> out;
  for (ValueId parameter : parameters) {
    Use use;
    ValueId s = none;
    if (parameter != none && find_use(graph, consumers, parameter, use)) {
      const Node& node = graph.node(use.node);
      const ValueId y_bar = bars[static_cast<size_t>(node.outputs[0])];
      if (y_bar != none) s = pass_back(graph, use, row_of(node.op).squares(graph, node, y_bar, use.which));
    }
    out.push_back(s);
  }
  return out;
}

}  // namespace palimpsest
