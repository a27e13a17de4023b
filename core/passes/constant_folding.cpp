#include "core/passes/constant_folding.h"

#include <map>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

bool is_foldable(const Instruction& instruction, const FoldingOptions& options) {
  const OpDef& op = *instruction.op;
  if (op.has_state || op.communicates || op.device_dependent || !op.eval) return false;
  // A loop may turn long, and what a barrier holds back is held back on purpose.
  if (has_control_flow(instruction) || instruction.is(ops::kOptimizationBarrier)) return false;
  for (const ResultInfo& result : instruction.results)
    if (result.type.elements() > options.most_elements || !result.name.empty()) return false;
  return true;
}

Graph fold_own_constants(const Graph& graph, const FoldingOptions& options) {
  GraphRewriter rewriter(graph);
  std::map<Value, HostTensor> known;  // of the source graph
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    bool constant_operands = true;
    for (Value operand : instruction.operands) constant_operands &= known.count(operand) > 0;
    if (!constant_operands || !is_foldable(instruction, options)) {
      rewriter.copy(index);
      continue;
    }
    std::vector<const HostTensor*> operands;
    for (Value operand : instruction.operands) operands.push_back(&known.at(operand));
    std::vector<HostTensor> results;
    for (const ResultInfo& result : instruction.results) results.emplace_back(result.type);
    with_call(graph, instruction,
              [&](const OpCall& call) { instruction.op->eval(call, operands, results); });
    const bool is_constant = instruction.is(ops::kConstant);
    if (is_constant) rewriter.copy(index);
    for (int r = 0; r < static_cast<int>(results.size()); ++r) {
      if (!is_constant) {
        Instruction folded;
        folded.op = &ops::kConstant;
        folded.attributes.set(Attr::value, std::make_shared<const HostTensor>(results[r]));
        folded.results = {instruction.results[r]};
        folded.scope = instruction.scope;
        folded.recompute = instruction.recompute;
        rewriter.replace({index, r}, rewriter.append(std::move(folded)));
      }
      known.emplace(Value{index, r}, std::move(results[r]));
    }
  }
  return rewriter.finish();
}

}  // namespace

Graph fold_constants(const Graph& graph, const FoldingOptions& options) {
  return with_regions(graph,
                      [&](const Graph& source) { return fold_own_constants(source, options); });
}

}  // namespace tessera
