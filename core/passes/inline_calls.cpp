#include "core/passes/inline_calls.h"

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"

namespace tessera {

Graph inline_calls(const Graph& source) {
  const Graph graph = with_mapped_regions(source, inline_calls);
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    if (!instruction.is(ops::kCall)) {
      rewriter.copy(index);
      continue;
    }
    std::vector<Value> operands;
    for (Value operand : instruction.operands) operands.push_back(rewriter.mapped(operand));
    rewriter.builder().set_scope(instruction.scope);
    rewriter.builder().set_recompute(instruction.recompute);
    const std::vector<Value> results =
        splice(rewriter.builder(), *instruction.attributes.get<GraphRef>(Attr::callee), operands);
    for (size_t r = 0; r < results.size(); ++r)
      rewriter.replace({index, static_cast<int>(r)}, results[r]);
  }
  return rewriter.finish();
}

}  // namespace tessera
