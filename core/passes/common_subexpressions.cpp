#include "core/passes/common_subexpressions.h"

#include <unordered_map>

#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"

namespace tessera {
namespace {

size_t hash_of(const Instruction& instruction, const std::vector<Value>& operands) {
  size_t seed = std::hash<const void*>()(instruction.op) ^ instruction.attributes.hash();
  for (Value operand : operands)
    seed = seed * 1000003 + static_cast<size_t>(operand.instruction) * 31 + static_cast<size_t>(operand.result);
  return seed * 2 + instruction.recompute;
}

bool may_merge(const Instruction& a, const Instruction& b) {
  if (a.op != b.op || a.recompute != b.recompute || a.operands != b.operands) return false;
  if (!(a.attributes == b.attributes) || a.factor_axes != b.factor_axes) return false;
  if ((a.op->communicates || a.recompute) && a.scope != b.scope) return false;
  if (a.results.size() != b.results.size()) return false;
  for (size_t r = 0; r < a.results.size(); ++r) {
    const ResultInfo &x = a.results[r], &y = b.results[r];
    if (!(x.type == y.type) || !(x.sharding == y.sharding)) return false;
    // Different names or axes are different demands on the sharding.
    if (x.logical_axes != y.logical_axes || x.name != y.name || x.groups != y.groups) return false;
  }
  return true;
}

Graph merge_own(const Graph& graph) {
  GraphRewriter rewriter(graph);
  std::unordered_multimap<size_t, int> seen;  // hash -> instruction of the new graph
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    Instruction instruction = graph.instructions[i];
    const int index = static_cast<int>(i);
    for (Value& operand : instruction.operands) operand = rewriter.mapped(operand);
    if (instruction.op->has_state || instruction.is(ops::kOptimizationBarrier)) {
      rewriter.copy(index);
      continue;
    }
    const size_t hash = hash_of(instruction, instruction.operands);
    int same = -1;
    const auto [begin, end] = seen.equal_range(hash);
    for (auto at = begin; at != end && same < 0; ++at)
      if (may_merge(rewriter.result().instructions[at->second], instruction)) same = at->second;
    if (same < 0) {
      same = rewriter.copy(index).instruction;
      seen.emplace(hash, same);
      continue;
    }
    for (int r = 0; r < static_cast<int>(instruction.results.size()); ++r)
      rewriter.replace({index, r}, {same, r});
  }
  return rewriter.finish();
}

}  // namespace

Graph merge_common_subexpressions(const Graph& graph) { return with_regions(graph, merge_own); }

}  // namespace tessera
