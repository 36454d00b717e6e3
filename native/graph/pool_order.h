// Rows that rise with their input and treat positions alike run behind a max pool, where there are fewer positions.
#pragma once

#include <vector>

#include "graph/network.h"

namespace palimpsest {

struct OrderedNode {
  NodeDescription node;
  size_t index;  // in the description
};

// The description's nodes with MaxPool(f(x)) as f(MaxPool(x)), for f a gate (Relu, LeakyRelu of a slope >= 0) or the
// addition of a value a channel, where nothing else reads f(x). The maxima are the same, rounding included; of values
// that f makes equal the largest before f is taken for the first, where derivatives may choose either. `read` are
// values that somebody else reads: an exchange gives the ids between its rows another meaning.
std::vector<OrderedNode> pools_first(const NetworkDescription& description, const std::vector<int32_t>& read);

}  // namespace palimpsest
