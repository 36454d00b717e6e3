// The order in which a graph's nodes run, and which elementwise nodes run as one pass over memory.
#include "graph/schedule.h"

#include <algorithm>
#include <limits>

#include "ops/table.h"

namespace palimpsest {

namespace {

constexpr size_t most_instructions = 24;
constexpr int32_t never = std::numeric_limits<int32_t>::max();

std::vector<char> live_nodes(const Graph& graph, const std::vector<ValueId>& outputs) {
  std::vector<char> live(static_cast<size_t>(graph.node_count()), 0);
  std::vector<ValueId> open = outputs;
  while (!open.empty()) {
    const ValueId id = open.back();
    open.pop_back();
    if (id == none || graph.value(id).source != Source::computed) continue;
    char& mark = live[static_cast<size_t>(graph.value(id).node)];
    if (mark != 0) continue;
    mark = 1;
    for (ValueId input : graph.node(graph.value(id).node).inputs) open.push_back(input);
  }
  return live;
}

std::vector<int32_t> depth_order(const Graph& graph, const std::vector<char>& live) {
  std::vector<int32_t> depth(static_cast<size_t>(graph.value_count()), 0), order;
  std::vector<int32_t> node_depth(live.size(), 0);
  for (int32_t i = 0; i < graph.node_count(); ++i) {
    const Node& node = graph.node(i);
    int32_t d = 0;
    for (ValueId input : node.inputs) d = std::max(d, depth[static_cast<size_t>(input)]);
    for (ValueId id : node.outputs) depth[static_cast<size_t>(id)] = d + 1;
    node_depth[static_cast<size_t>(i)] = d;
    if (live[static_cast<size_t>(i)] != 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return node_depth[static_cast<size_t>(a)] < node_depth[static_cast<size_t>(b)];
  });
  return order;
}

// Joins elementwise nodes of one shape; a group runs at the place of its last node.
class Fusion {
 public:
  Fusion(const Graph& graph, const std::vector<int32_t>& order, const std::vector<char>& tangent)
      : graph_(graph),
        order_(order),
        tangent_(tangent),
        place_(static_cast<size_t>(graph.node_count()), never),
        group_(static_cast<size_t>(graph.node_count()), -1),
        readers_(static_cast<size_t>(graph.value_count())) {
    for (size_t i = 0; i < order.size(); ++i) {
      place_[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
      for (ValueId input : graph.node(order[i]).inputs) readers_[static_cast<size_t>(input)].push_back(order[i]);
    }
  }

  std::vector<Pass> run() {
    for (int32_t node : order_) {
      group_[static_cast<size_t>(node)] = static_cast<int32_t>(groups_.size());
      groups_.push_back({node});
      if (is_elementwise(graph_.node(node).op)) join_producers(node);
    }
    return passes();
  }

 private:
  using Group = std::vector<int32_t>;

  bool fits(int32_t producer, int32_t node) const {
    return is_elementwise(graph_.node(producer).op) &&
           tangent_[static_cast<size_t>(producer)] == tangent_[static_cast<size_t>(node)] &&
           graph_.dims(graph_.node(producer).outputs[0]) == graph_.dims(graph_.node(node).outputs[0]);
  }

  void join_producers(int32_t node) {
    for (ValueId input : graph_.node(node).inputs) {
      const Value& value = graph_.value(input);
      if (value.source != Source::computed || !fits(value.node, node)) continue;
      const int32_t from = group_[static_cast<size_t>(value.node)], to = group_[static_cast<size_t>(node)];
      if (from != to && may_join(from, to, place_[static_cast<size_t>(node)])) join(from, to);
    }
  }

  // Nothing outside may read a member of `from` before the place where the joined group runs.
  bool may_join(int32_t from, int32_t to, int32_t place) const {
    const Group& moved = groups_[static_cast<size_t>(from)];
    if (moved.size() + groups_[static_cast<size_t>(to)].size() > most_instructions) return false;
    for (int32_t member : moved) {
      for (int32_t reader : readers_[static_cast<size_t>(graph_.node(member).outputs[0])]) {
        const int32_t own = group_[static_cast<size_t>(reader)];
        if (own == from || own == to) continue;
        // A reader in a group runs where that group's last node stands.
        const int32_t runs =
            own < 0 ? place_[static_cast<size_t>(reader)] : last_place(groups_[static_cast<size_t>(own)]);
        if (runs <= place) return false;
      }
    }
    return true;
  }

  int32_t last_place(const Group& group) const {
    int32_t last = -1;
    for (int32_t node : group) last = std::max(last, place_[static_cast<size_t>(node)]);
    return last;
  }

  void join(int32_t from, int32_t to) {
    Group& target = groups_[static_cast<size_t>(to)];
    for (int32_t node : groups_[static_cast<size_t>(from)]) {
      group_[static_cast<size_t>(node)] = to;
      target.push_back(node);
    }
    groups_[static_cast<size_t>(from)].clear();
    std::sort(target.begin(), target.end(),
              [&](int32_t a, int32_t b) { return place_[static_cast<size_t>(a)] < place_[static_cast<size_t>(b)]; });
  }

  std::vector<Pass> passes() const {
    std::vector<Pass> result;
    for (int32_t node : order_) {
      const Group& group = groups_[static_cast<size_t>(group_[static_cast<size_t>(node)])];
      if (group.back() != node) continue;
      result.push_back({group, is_elementwise(graph_.node(node).op), tangent_[static_cast<size_t>(node)] != 0});
    }
    return result;
  }

  const Graph& graph_;
  const std::vector<int32_t>& order_;
  const std::vector<char>& tangent_;
  std::vector<int32_t> place_, group_;
  std::vector<std::vector<int32_t>> readers_;
  std::vector<Group> groups_;
};

std::vector<char> tangent_nodes(const Graph& graph, uint32_t late) {
  std::vector<char> values(static_cast<size_t>(graph.value_count()), 0),
      nodes(static_cast<size_t>(graph.node_count()), 0);
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    const Value& value = graph.value(id);
    const bool comes_late = value.source == Source::input && (late >> value.index & 1) != 0;
    values[static_cast<size_t>(id)] = value.source == Source::tangent || comes_late;
  }
  for (int32_t i = 0; i < graph.node_count(); ++i) {
    for (ValueId input : graph.node(i).inputs) nodes[static_cast<size_t>(i)] |= values[static_cast<size_t>(input)];
    for (ValueId id : graph.node(i).outputs) values[static_cast<size_t>(id)] = nodes[static_cast<size_t>(i)];
  }
  return nodes;
}

}  // namespace

std::vector<Pass> schedule(const Graph& graph, const std::vector<ValueId>& outputs, bool fuse, uint32_t late) {
  const std::vector<char> tangent = tangent_nodes(graph, late);
  const std::vector<int32_t> order = depth_order(graph, live_nodes(graph, outputs));
  if (fuse) return Fusion(graph, order, tangent).run();
  std::vector<Pass> result;
  for (int32_t node : order) {
    result.push_back({{node}, is_elementwise(graph.node(node).op), tangent[static_cast<size_t>(node)] != 0});
  }
  return result;
}

}  // namespace palimpsest
