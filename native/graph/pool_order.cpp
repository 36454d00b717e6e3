// Moves max pools in front of the gates and additions that they follow.
#include "graph/pool_order.h"

#include <algorithm>
#include <map>
#include <utility>

namespace palimpsest {

namespace {

class PoolOrder {
 public:
  PoolOrder(const NetworkDescription& description, const std::vector<int32_t>& read) : description_(description) {
    for (size_t i = 0; i < description.nodes.size(); ++i) {
      nodes_.push_back({description.nodes[i], i});
      for (int32_t id : description.nodes[i].inputs) ++readers_[id];
      for (int32_t id : description.nodes[i].outputs) {
        if (!producer_.emplace(id, i).second) producer_[id] = ambiguous;
      }
    }
    ++readers_[description.output];
    for (int32_t id : read) ++readers_[id];
  }

  std::vector<OrderedNode> run() {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      for (size_t pool = i; is_plain_pool(nodes_[pool].node);) {
        const size_t before = movable_before(pool);
        if (before == none_found) break;
        exchange(before, pool);
        pool = before;
      }
    }
    return std::move(nodes_);
  }

 private:
  static constexpr size_t none_found = static_cast<size_t>(-1), ambiguous = none_found;

  // Whose positions nobody asks for.
  bool is_plain_pool(const NodeDescription& node) const {
    if (node.op != "MaxPool" || node.inputs.size() != 1 || node.outputs.empty() || node.outputs.size() > 2)
      return false;
    return node.outputs.size() == 1 || readers_.count(node.outputs[1]) == 0;
  }

  size_t producer_of(int32_t id) const {
    const auto found = producer_.find(id);
    return found == producer_.end() ? none_found : found->second;
  }

  // The place of the row that computes the pool's input, where it may run behind the pool.
  size_t movable_before(size_t pool) const {
    const int32_t id = nodes_[pool].node.inputs[0];
    const size_t before = producer_of(id);
    const auto readers = readers_.find(id);
    if (before == none_found || before >= pool || readers == readers_.end() || readers->second != 1) return none_found;
    return moved_input(nodes_[before].node) < 0 ? none_found : before;
  }

  // Which input of a movable row the pool may take; -1 where the row is none.
  int moved_input(const NodeDescription& node) const {
    if (node.outputs.size() != 1) return -1;
    const bool gate = node.op == "Relu" || (node.op == "LeakyRelu" && node.attributes.alpha >= 0);
    if (gate && node.inputs.size() == 1 && node.attributes.order == 0) return 0;
    if (node.op != "Add" || node.inputs.size() != 2) return -1;
    if (is_convolved(node.inputs[0]) && is_per_channel(node.inputs[1])) return 0;
    return is_convolved(node.inputs[1]) && is_per_channel(node.inputs[0]) ? 1 : -1;
  }

  // [N, C, H, W] for certain.
  bool is_convolved(int32_t id) const {
    const size_t made = producer_of(id);
    return made != none_found && nodes_[made].node.op == "Conv";
  }

  // A parameter or constant of dimensions [1, C, 1, 1] or [C, 1, 1], as it is or reshaped.
  bool is_per_channel(int32_t id) const {
    Dims dims;
    if (const size_t made = producer_of(id); made != none_found) {
      const NodeDescription& node = nodes_[made].node;
      if (node.op != "Reshape" || node.inputs.size() != 1 || !is_fixed_leaf(node.inputs[0])) return false;
      dims = node.attributes.dims;
    } else if (is_fixed_leaf(id)) {
      dims = leaf(id)->dims;
    }
    const size_t rank = dims.size();
    if (rank < 3 || rank > 4 || (rank == 4 && dims[0] != 1)) return false;
    return dims[rank - 3] >= 1 && dims[rank - 2] == 1 && dims[rank - 1] == 1;
  }

  const LeafDescription* leaf(int32_t id) const {
    const auto found = std::find_if(description_.leaves.begin(), description_.leaves.end(),
                                    [&](const LeafDescription& one) { return one.id == id; });
    return found == description_.leaves.end() ? nullptr : &*found;
  }
  bool is_fixed_leaf(int32_t id) const {
    const LeafDescription* found = leaf(id);
    return found != nullptr && (found->source == Source::parameter || found->source == Source::constant);
  }

  // a -> f -> b -> pool -> c becomes a -> pool -> b -> f -> c, each in the other's place in the list.
  void exchange(size_t before, size_t pool) {
    NodeDescription &f = nodes_[before].node, &p = nodes_[pool].node;
    int32_t& a = f.inputs[static_cast<size_t>(moved_input(f))];
    const int32_t b = p.inputs[0];
    p.inputs[0] = a;
    a = b;
    p.outputs.resize(1);
    std::swap(f.outputs, p.outputs);
    std::swap(nodes_[before], nodes_[pool]);
    for (const size_t place : {before, pool}) producer_[nodes_[place].node.outputs[0]] = place;
  }

  const NetworkDescription& description_;
  std::vector<OrderedNode> nodes_;
  std::map<int32_t, int> readers_;
  std::map<int32_t, size_t> producer_;
};

}  // namespace

std::vector<OrderedNode> pools_first(const NetworkDescription& description, const std::vector<int32_t>& read) {
  return PoolOrder(description, read).run();
}

}  // namespace palimpsest
