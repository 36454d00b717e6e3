// The order in which a graph's nodes run, and which elementwise nodes run as one pass over memory.
#pragma once

#include <vector>

#include "ops/graph.h"

namespace palimpsest {

// One pass: a single node, or elementwise nodes of one shape in order.
struct Pass {
  std::vector<int32_t> nodes;
  bool elementwise = false;
  bool tangent = false;  // depends on a tangent or a late input
};

// Live nodes only, by depth: tangents run beside their primals, so that activations die early. With `fuse`, chains of
// elementwise nodes are joined where nothing in between reads them. Late inputs (a bit an InputSlot) count as tangents.
std::vector<Pass> schedule(const Graph& graph, const std::vector<ValueId>& outputs, bool fuse, uint32_t late = 0);

}  // namespace palimpsest
