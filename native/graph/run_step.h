// One step of a plan, on tensors whose memory is known.
#pragma once

#include <span>

#include "backend/backend.h"
#include "graph/plan.h"

namespace palimpsest {

// Runs a step of the graph's plan; inputs and outputs are the step's tensors, each with its data.
void run_step(const Graph& graph, const Step& step, Backend& backend, std::span<const Tensor> inputs,
              std::span<const Tensor> outputs);

}  // namespace palimpsest
