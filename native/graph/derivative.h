// Derivatives as graphs: a linearised graph computes J v, a transposed one J^T u; both extend the graph they read.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "ops/graph.h"

namespace palimpsest {

// Tangents of every value of the graph as it stands, from seeds (value, tangent); none where a value does not move.
// Graph to graph: emits nodes of the same table.
std::vector<ValueId> linearise(Graph& graph, std::span<const std::pair<ValueId, ValueId>> seeds);

// Cotangents of `wanted` from seeds (value, cotangent); none where there is no path.
std::vector<ValueId> transpose(Graph& graph, std::span<const std::pair<ValueId, ValueId>> seeds,
                               std::span<const ValueId> wanted);

// Per-example squares of each parameter, sum_b (J_b^T u_b)^2, by the rows' quick rules. A parameter that has none
// (several uses, or a row without the rule) gets none and must be computed example by example.
std::vector<ValueId> square_gradients(Graph& graph, ValueId output, ValueId cotangent,
                                      std::span<const ValueId> parameters);

}  // namespace palimpsest
