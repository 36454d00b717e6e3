// An interpreter of graphs in plain float64 loops over logical indices: what every kernel and every plan is held to.
// It shares no code with the kernels; derivatives of unary rows come from Taylor arithmetic, not from formulas.
#pragma once

#include <vector>

#include "graph_run.h"

namespace palimpsest::check {

// All values of the graph that do not need a leaf which the point lacks; empty for those that do.
std::vector<Values> interpret(const Graph& graph, const Point& point);

}  // namespace palimpsest::check
