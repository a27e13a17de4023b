#include "core/passes/ordered_rewriter.h"

#include <algorithm>

namespace tessera {

std::vector<bool> depending(const Graph& graph, const std::vector<int>& roots, int last) {
  std::vector<bool> depends(graph.instructions.size(), false);
  for (const int root : roots) depends[static_cast<size_t>(root)] = true;
  const int first = roots.empty() ? last : *std::min_element(roots.begin(), roots.end());
  for (int i = first; i <= last; ++i)
    for (const Value operand : graph.instructions[static_cast<size_t>(i)].operands)
      if (depends[static_cast<size_t>(operand.instruction)]) depends[static_cast<size_t>(i)] = true;
  return depends;
}

OrderedRewriter::OrderedRewriter(const Graph& source)
    : source_(source),
      rewriter_(source),
      is_done_(source.instructions.size(), false),
      joined_of_(source.instructions.size(), -1) {}

void OrderedRewriter::merge(const std::vector<int>& members, std::function<void()> put) {
  for (const int member : members) joined_of_[static_cast<size_t>(member)] = static_cast<int>(joined_.size());
  joined_.push_back({members, std::move(put)});
}

Graph OrderedRewriter::run() {
  for (int i = 0; i < static_cast<int>(source_.instructions.size()); ++i) copy(i);
  return rewriter_.finish();
}

Value OrderedRewriter::made(Value old_value) {
  copy(old_value.instruction);
  return rewriter_.mapped(old_value);
}

void OrderedRewriter::copy(int index) {
  const auto at = static_cast<size_t>(index);
  if (is_done_[at]) return;
  if (const int number = joined_of_[at]; number >= 0) {
    const Joined& joined = joined_[static_cast<size_t>(number)];
    for (const int member : joined.members) is_done_[static_cast<size_t>(member)] = true;
    return joined.put();
  }
  is_done_[at] = true;
  for (const Value operand : source_.instructions[at].operands) copy(operand.instruction);
  rewriter_.copy(index);
}

}  // namespace tessera
