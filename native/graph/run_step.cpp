// A step is a node, an elementwise pass, or a node that such a pass follows.
#include "graph/run_step.h"

#include "ops/table.h"

namespace palimpsest {

void run_step(const Graph& graph, const Step& step, Backend& backend, std::span<const Tensor> inputs,
              std::span<const Tensor> outputs) {
  if (step.elementwise) {
    if (step.program.instructions.empty()) return backend.copy(inputs[0], outputs[0]);
    return backend.elementwise(step.program, inputs, outputs);
  }
  const Node& node = graph.node(step.node);
  if (step.epilogue == 0) return row_of(node.op).forward(node, backend, inputs, outputs);
  const auto own = static_cast<size_t>(step.epilogue);
  row_of(node.op).forward_epilogue(node, backend, inputs.first(own), outputs[0], {step.program, inputs.subspan(own)});
}

}  // namespace palimpsest
