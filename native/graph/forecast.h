// What a plan will cost before it runs: operations, bytes and kinds of its steps, and from rates the time of each.
#pragma once

#include <string>
#include <vector>

#include "graph/plan.h"
#include "graph/rates.h"

namespace palimpsest {

enum class StepKind : uint8_t { gemm, conv, squares, memory };

struct StepCost {
  StepKind kind = StepKind::memory;
  double flops = 0, bytes = 0;  // bytes: operands that the step reads and writes, each once
};

StepCost cost_of(const Graph& graph, const Plan& plan, const Step& step);

// Costs of every step, in order.
std::vector<StepCost> costs_of(const Graph& graph, const Plan& plan);

// Seconds by the rates alone: a call, the operations, the bytes; what is quickest to reckon and least exact.
double seconds_by_rates(const StepCost& cost, const Rates& rates);

// What decides how long a step takes: type and precision, operator, attributes, operands with their layouts,
// instructions.
std::string signature_of(const Graph& graph, const Step& step, DType dtype, Precision precision);

}  // namespace palimpsest
