#include "partitioner/split_constants.h"

#include "core/ir/rewriter.h"

namespace tessera {
namespace {

// Costs nothing to make anew: no operands but scalars, no state, no communication.
bool is_cheap(const Graph& graph, const Instruction& instruction) {
  const OpDef& op = *instruction.op;
  if (op.has_state || op.communicates || op.device_dependent || instruction.results.size() != 1 ||
      instruction.attributes.has(Attr::seed))
    return false;
  if (instruction.results[0].type.rank() == 0 || !instruction.results[0].name.empty()) return false;
  for (Value operand : instruction.operands)
    if (graph.type(operand).rank() > 0) return false;
  return true;
}

}  // namespace

Graph split_constants(const Graph& graph) {
  GraphRewriter rewriter(graph);
  std::vector<int> uses_left(graph.instructions.size(), 0);
  for (const Instruction& instruction : graph.instructions)
    for (Value operand : instruction.operands)
      ++uses_left[static_cast<size_t>(operand.instruction)];
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    Instruction copy = graph.instructions[i];
    for (Value& operand : copy.operands) {
      const Instruction& producer = graph.at(operand);
      // The last use takes the original, every one before it a copy.
      if (--uses_left[static_cast<size_t>(operand.instruction)] > 0 && is_cheap(graph, producer)) {
        Instruction again = producer;
        for (Value& inner : again.operands) inner = rewriter.mapped(inner);
        operand = rewriter.append(std::move(again));
      } else {
        operand = rewriter.mapped(operand);
      }
    }
    const Value made = rewriter.append(std::move(copy));
    for (size_t r = 0; r < graph.instructions[i].results.size(); ++r)
      rewriter.replace({static_cast<int>(i), static_cast<int>(r)},
                       {made.instruction, static_cast<int>(r)});
  }
  return rewriter.finish();
}

}  // namespace tessera
