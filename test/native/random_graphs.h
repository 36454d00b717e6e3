// Random small graphs whose steps cross each other in every way: elementwise chains, reductions, products, windows.
#pragma once

#include "graph_run.h"

namespace palimpsest::check {

struct RandomGraph {
  Graph graph{1};
  Network network = holder({});
  Point point;  // parameters and tangents
  std::vector<ValueId> parameters;
  std::vector<ValueId> outputs;  // some twice, some leaves, some views of each other
};

// With `windows` some values are images, which the planner stores channels-last; with `tangents` some leaves are
// tangents.
RandomGraph random_graph(uint64_t seed, bool windows, bool tangents);

// Other tangents for the same graph.
std::vector<Values> random_tangents(const RandomGraph& random, uint64_t seed);

}  // namespace palimpsest::check
