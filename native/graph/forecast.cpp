// Costs and signatures of a plan's steps.
#include "graph/forecast.h"

#include <algorithm>

#include "ops/table.h"

namespace palimpsest {

namespace {

StepKind kind_of(Op op) {
  switch (op) {
    case Op::MatMul: return StepKind::gemm;
    case Op::Conv:
    case Op::ConvInputGradient:
    case Op::ConvWeightGradient: return StepKind::conv;
    case Op::LinearGradientSquares:
    case Op::ConvGradientSquares: return StepKind::squares;
    default: return StepKind::memory;
  }
}

// An elementwise pass: every operand once, whatever is fused into it.
StepCost pass_cost(const Plan& plan, const Step& step) {
  StepCost cost;
  for (const auto* list : {&step.inputs, &step.outputs}) {
    for (int32_t b : *list) cost.bytes += static_cast<double>(plan.buffers[static_cast<size_t>(b)].bytes);
  }
  const double count = static_cast<double>(element_count(step.output_tensors[0].dims));
  cost.flops = count * static_cast<double>(step.program.instructions.size());
  return cost;
}

void append(std::string& text, const Dims& dims) {
  for (int64_t size : dims) text += std::to_string(size) + ',';
  text += ';';
}

void append(std::string& text, const Tensor& tensor) {
  text += std::to_string(static_cast<int>(tensor.dtype)) + ':';
  append(text, tensor.dims);
  append(text, tensor.strides);
}

void append(std::string& text, const Attributes& a) {
  for (const Dims* dims :
       {&a.kernel, &a.strides, &a.pads, &a.dilations, &a.dims, &a.axes, &a.perm, &a.starts, &a.steps, &a.indices}) {
    append(text, *dims);
  }
  append(text, Dims{a.group, a.axis, a.order, a.trans_a, a.trans_b, a.count_pads, a.beta != 0});
}

void append(std::string& text, const ElementwiseProgram& program) {
  for (const Instruction& i : program.instructions) {
    append(text, Dims{static_cast<int64_t>(i.code), static_cast<int64_t>(i.unary), i.order, i.a, i.b, i.c});
    text += std::to_string(i.alpha) + ' ';
  }
  for (int32_t output : program.outputs) append(text, Dims{output});
}

}  // namespace

StepCost cost_of(const Graph& graph, const Plan& plan, const Step& step) {
  if (step.elementwise) return pass_cost(plan, step);
  const Node& node = graph.node(step.node);
  const Cost cost = row_of(node.op).cost(graph, node);
  const Tensor& made = step.output_tensors[0];
  StepCost all{kind_of(node.op), cost.flops, cost.bytes * static_cast<double>(size_of(made.dtype)) + cost.index_bytes};
  // Of an epilogue: what it reads besides the product's result.
  const auto own = static_cast<size_t>(step.epilogue);
  for (size_t i = own + 1; own > 0 && i < step.inputs.size(); ++i) {
    all.bytes += static_cast<double>(plan.buffers[static_cast<size_t>(step.inputs[i])].bytes);
  }
  all.flops += static_cast<double>(element_count(made.dims)) * static_cast<double>(step.program.instructions.size());
  return all;
}

std::vector<StepCost> costs_of(const Graph& graph, const Plan& plan) {
  std::vector<StepCost> costs;
  for (const Step& step : plan.steps) costs.push_back(cost_of(graph, plan, step));
  return costs;
}

double seconds_by_rates(const StepCost& cost, const Rates& rates) {
  double seconds = rates.call + cost.bytes / bandwidth(rates, cost.bytes);
  if (cost.kind == StepKind::gemm) seconds += cost.flops / rates.gemm;
  if (cost.kind == StepKind::conv) seconds += cost.flops / rates.conv;
  if (cost.kind == StepKind::squares) seconds += cost.flops / rates.squares;
  return seconds;
}

std::string signature_of(const Graph& graph, const Step& step, DType dtype, Precision precision) {
  std::string text = std::to_string(static_cast<int>(dtype)) + '.' + std::to_string(static_cast<int>(precision)) + '/';
  if (step.elementwise) {
    append(text, step.program);
  } else {
    const Node& node = graph.node(step.node);
    text += row_of(node.op).name;
    append(text, node.attributes);
    if (step.epilogue > 0) append(text, step.program);
  }
  for (const Tensor& tensor : step.input_tensors) append(text, tensor);
  text += '>';
  for (const Tensor& tensor : step.output_tensors) append(text, tensor);
  return text;
}

}  // namespace palimpsest
