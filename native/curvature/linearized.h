// The linearised network as a description again: f(x) + J(x) w with tangents as leaves, the batch size left open.
#pragma once

#include <vector>

#include "graph/network.h"

namespace palimpsest {

// Leaves are the network's own and a tangent (Source::tangent, the parameter's name) for each chosen parameter; the
// output is f(x) + J(x) w. Constants carry their present values. Only nodes that the output needs.
NetworkDescription linearized_description(const Network& network, const std::vector<bool>& parameters);

}  // namespace palimpsest
