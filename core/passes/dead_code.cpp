#include "core/passes/dead_code.h"

#include "core/ir/rewriter.h"

namespace tessera {

Graph eliminate_dead_code(const Graph& graph) {
  std::vector<bool> live(graph.instructions.size(), false);
  for (const GraphInput& input : graph.inputs) live[input.value.instruction] = true;
  for (const GraphOutput& output : graph.outputs) live[output.value.instruction] = true;
  for (size_t i = graph.instructions.size(); i-- > 0;)
    if (live[i])
      for (Value operand : graph.instructions[i].operands) live[operand.instruction] = true;
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    if (live[i]) rewriter.copy(static_cast<int>(i));
  return rewriter.finish();
}

}  // namespace tessera
