#include "partitioner/use_patterns.h"

#include <algorithm>
#include <tuple>

namespace tessera {

bool is_backward(const Instruction& instruction) { return instruction.scope.ends_with("backward"); }

UsePatterns::UsePatterns(const Graph& graph) : uses(graph.uses()) {
  find_accepted_partials(graph);
  find_shares(graph);
}

// Backwards from outputs that are demanded partial: a value may be partial for free where every
// user is linear in it and may itself be partial for free.
void UsePatterns::find_accepted_partials(const Graph& graph) {
  accepted_partials.resize(graph.instructions.size());
  std::vector<std::vector<int>> seen(graph.instructions.size());
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    accepted_partials[i].resize(graph.instructions[i].results.size());
    seen[i].assign(graph.instructions[i].results.size(), 0);
  }
  auto meet = [&](Value value, const AxisList& axes) {
    AxisList& known = accepted_partials[static_cast<size_t>(value.instruction)]
                                       [static_cast<size_t>(value.result)];
    int& count = seen[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)];
    known = count++ == 0 ? axes : without(known, without(known, axes));
  };
  for (const GraphOutput& output : graph.outputs)
    meet(output.value, output.sharding ? output.sharding->partial : AxisList{});
  for (size_t i = graph.instructions.size(); i-- > 0;) {
    const Instruction& instruction = graph.instructions[i];
    if (instruction.operands.empty()) continue;
    const bool any = std::any_of(accepted_partials[i].begin(), accepted_partials[i].end(),
                                 [](const auto& a) { return !a.empty(); });
    std::vector<LinearSet> sets;
    if (any)
      sets = with_call(graph, instruction,
                       [&](const OpCall& call) { return linear_sets(*instruction.op, call); });
    for (size_t o = 0; o < instruction.operands.size(); ++o) {
      const bool is_linear = std::any_of(sets.begin(), sets.end(), [&](const LinearSet& set) {
        return set.kind == ReduceKind::sum &&
               std::count(set.operands.begin(), set.operands.end(), static_cast<int>(o));
      });
      meet(instruction.operands[o], is_linear ? accepted_partials[i][0] : AxisList{});
    }
  }
}

// q, k and v read the same activation, and their three cotangents are summed: what moves for one of
// them serves all, and is charged to each by its FLOPs.
void UsePatterns::find_shares(const Graph& graph) {
  for (const Instruction& instruction : graph.instructions)
    flops.push_back(with_call(graph, instruction, [&](const OpCall& call) {
      return std::max(1.0, flop_count(*instruction.op, call, Graph::result_types(instruction)));
    }));
  std::map<std::tuple<Value, const OpDef*, size_t, bool, bool>, double> alike;
  auto key_of = [&](const Instruction& user, size_t o) {
    return std::tuple(user.operands[o], user.op, o, is_backward(user), user.recompute);
  };
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    for (size_t o = 0; o < graph.instructions[i].operands.size(); ++o)
      alike[key_of(graph.instructions[i], o)] += flops[i];
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    operand_shares.emplace_back();
    for (size_t o = 0; o < graph.instructions[i].operands.size(); ++o)
      operand_shares.back().push_back(alike.at(key_of(graph.instructions[i], o)) / flops[i]);
  }
  // Trees of ops that are jointly linear in two operands (additions), from their roots down.
  auto is_sum = [&](const Instruction& instruction) {
    return instruction.operands.size() == 2 && instruction.results.size() == 1 &&
           instruction.op->commutative && with_call(graph, instruction, [&](const OpCall& call) {
             const std::vector<LinearSet> sets = linear_sets(*instruction.op, call);
             return !sets.empty() && sets[0].kind == ReduceKind::sum &&
                    sets[0].operands.size() == 2;
           });
  };
  std::vector<int> root(graph.instructions.size(), -1);
  std::map<std::pair<int, const OpDef*>, std::vector<Value>> leaves;
  for (size_t i = graph.instructions.size(); i-- > 0;) {
    const Instruction& instruction = graph.instructions[i];
    if (!is_sum(instruction)) continue;
    if (root[i] < 0) root[i] = static_cast<int>(i);
    for (Value operand : instruction.operands) {
      if (uses[static_cast<size_t>(operand.instruction)].size() != 1) continue;
      if (is_sum(graph.at(operand)))
        root[static_cast<size_t>(operand.instruction)] = root[i];
      else
        leaves[{root[i], graph.at(operand).op}].push_back(operand);
    }
  }
  std::map<int, std::vector<Value>> trees;
  for (const auto& [tree, values] : leaves)
    trees[tree.first].insert(trees[tree.first].end(), values.begin(), values.end());
  constexpr size_t kMostAddends = 16;
  for (const auto& [tree, values] : trees)
    if (values.size() <= kMostAddends)
      for (Value value : values) addends[value] = values;
  for (const auto& [tree, values] : leaves) {
    double together = 0;
    for (Value value : values) together += flops[static_cast<size_t>(value.instruction)];
    for (Value value : values)
      sum_shares[value] = together / flops[static_cast<size_t>(value.instruction)];
  }
}

}  // namespace tessera
