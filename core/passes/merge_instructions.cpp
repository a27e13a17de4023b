#include "core/passes/merge_instructions.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/passes/ordered_rewriter.h"

namespace tessera {
namespace {

using Taken = std::vector<const Merge*>;

// Whether the graph in which each merge is one instruction can be put in order.
bool has_order(const Graph& graph, const Taken& merges) {
  const size_t count = graph.instructions.size();
  // A merge goes by its first member.
  std::vector<size_t> node_of(count);
  std::iota(node_of.begin(), node_of.end(), size_t{0});
  std::vector<const std::vector<Value>*> operands(count);
  for (size_t i = 0; i < count; ++i) operands[i] = &graph.instructions[i].operands;
  for (const Merge* merge : merges) {
    for (const int member : merge->members) {
      node_of[static_cast<size_t>(member)] = static_cast<size_t>(merge->members[0]);
      operands[static_cast<size_t>(member)] = nullptr;
    }
    operands[static_cast<size_t>(merge->members[0])] = &merge->one.operands;
  }
  std::vector<std::vector<size_t>> readers(count);
  std::vector<size_t> missing(count, 0);  // operands that stand nowhere yet
  std::vector<size_t> ready;
  size_t left = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!operands[i]) continue;
    ++left;
    for (const Value operand : *operands[i])
      readers[node_of[static_cast<size_t>(operand.instruction)]].push_back(i);
    missing[i] = operands[i]->size();
    if (missing[i] == 0) ready.push_back(i);
  }
  for (; !ready.empty(); --left) {
    const size_t next = ready.back();
    ready.pop_back();
    for (const size_t reader : readers[next])
      if (--missing[reader] == 0) ready.push_back(reader);
  }
  return left == 0;
}

void check_members(const Graph& graph, const std::vector<Merge>& merges) {
  std::vector<bool> is_member(graph.instructions.size(), false);
  for (const Merge& merge : merges)
    for (const int member : merge.members) {
      TESSERA_CHECK(!is_member[static_cast<size_t>(member)], "instruction %", member, " of graph \"", graph.name,
                    "\" is a member of two merges");
      is_member[static_cast<size_t>(member)] = true;
    }
}

Taken without_circles(const Graph& graph, const std::vector<Merge>& merges) {
  Taken all;
  for (const Merge& merge : merges) all.push_back(&merge);
  if (has_order(graph, all)) return all;
  Taken taken;
  for (const Merge* merge : all) {
    taken.push_back(merge);
    if (!has_order(graph, taken)) taken.pop_back();
  }
  return taken;
}

}  // namespace

Graph merge_instructions(const Graph& graph, const std::vector<Merge>& merges) {
  check_members(graph, merges);
  const Taken taken = without_circles(graph, merges);
  TESSERA_CHECK(!taken.empty() || merges.empty(), "no merge of graph \"", graph.name, "\" is possible alone");
  OrderedRewriter rewriter(graph);
  for (const Merge* merge : taken)
    rewriter.merge(merge->members, [&rewriter, merge] {
      Instruction one = merge->one;
      for (Value& operand : one.operands) operand = rewriter.made(operand);
      const int made = rewriter.append(std::move(one)).instruction;
      for (size_t r = 0; r < merge->stands_for.size(); ++r)
        rewriter.replace(merge->stands_for[r], {made, static_cast<int>(r)});
    });
  return rewriter.run();
}

}  // namespace tessera
