#include "core/passes/inline_calls.h"

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"

namespace tessera {

namespace {

Graph inline_own_calls(const Graph& graph) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    if (instruction.is(ops::kCall))
      splice_instead(rewriter, instruction, index,
                     *instruction.attributes.get<GraphRef>(Attr::callee));
    else
      rewriter.copy(index);
  }
  return rewriter.finish();
}

}  // namespace

Graph inline_calls(const Graph& graph) { return with_regions(graph, inline_own_calls); }

}  // namespace tessera
