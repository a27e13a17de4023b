#include "core/passes/ordered_rewriter.h"

#include <map>

namespace tessera {

std::vector<bool> depending(const Graph& graph, const std::vector<int>& roots) {
  std::vector<bool> depends(graph.instructions.size(), false);
  for (const int root : roots) depends[static_cast<size_t>(root)] = true;
  for (size_t i = 0; i < depends.size(); ++i)
    for (const Value operand : graph.instructions[i].operands)
      if (depends[static_cast<size_t>(operand.instruction)]) depends[i] = true;
  return depends;
}

OrderedRewriter::OrderedRewriter(const Graph& source)
    : source_(source), rewriter_(source), is_done_(source.instructions.size(), false) {}

Graph OrderedRewriter::run(const std::vector<Merge>& merges) {
  std::map<int, const Merge*> at;
  for (const Merge& merge : merges) {
    at[merge.members.front()] = &merge;
    for (const int member : merge.members) is_done_[static_cast<size_t>(member)] = true;
  }
  for (int i = 0; i < static_cast<int>(source_.instructions.size()); ++i)
    if (const auto found = at.find(i); found != at.end())
      found->second->put();
    else
      copy(i);
  return rewriter_.finish();
}

Value OrderedRewriter::made(Value old_value) {
  copy(old_value.instruction);
  return rewriter_.mapped(old_value);
}

void OrderedRewriter::copy(int index) {
  const auto at = static_cast<size_t>(index);
  if (is_done_[at]) return;
  is_done_[at] = true;
  for (const Value operand : source_.instructions[at].operands) copy(operand.instruction);
  rewriter_.copy(index);
}

}  // namespace tessera
