#include "core/passes/simplify_case.h"

#include <optional>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/passes/trip_count.h"

namespace tessera {
namespace {

// The branch that is always taken.
GraphRef only_branch(const Graph& graph, const Instruction& instruction) {
  const auto& branches = instruction.attributes.get<Graphs>(Attr::branches);
  const auto count = static_cast<int64_t>(branches.size());
  if (count == 1) return branches[0];
  const std::optional<int64_t> index = known_integer(graph, instruction.operands[0]);
  if (!index) return nullptr;
  return branches[static_cast<size_t>(*index < 0 || *index >= count ? count - 1 : *index)];
}

Graph simplify_own_cases(const Graph& graph) {
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    const GraphRef branch =
        instruction.is(ops::kCase) ? only_branch(graph, instruction) : nullptr;
    if (branch)
      splice_instead(rewriter, instruction, index, *branch, 1);
    else
      rewriter.copy(index);
  }
  return rewriter.finish();
}

}  // namespace

Graph simplify_case(const Graph& graph) { return with_regions(graph, simplify_own_cases); }

}  // namespace tessera
