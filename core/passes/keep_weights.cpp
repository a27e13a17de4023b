#include "core/passes/keep_weights.h"

#include <map>
#include <vector>

#include "core/ir/rewriter.h"
#include "core/ops/sharding.h"
#include "core/passes/dead_code.h"

namespace tessera {
namespace {

// What is computed from parameters alone by ops of one result has a class; equal computations have
// the same one. Gathers of shards, and reductions of what scales a weight in fp8, are among them.
class WeightClasses {
 public:
  explicit WeightClasses(const Graph& graph) : graph_(graph) {
    std::vector<bool> is_weight(graph.instructions.size(), false);
    for (const GraphInput& input : graph.inputs)
      if (input.kind == InputKind::parameter) is_weight[at(input.value.instruction)] = true;
    for (size_t i = 0; i < graph.instructions.size(); ++i) {
      const Instruction& instruction = graph.instructions[i];
      const int number = static_cast<int>(i);
      if (instruction.op->has_state)
        class_.push_back(is_weight[i] ? number : -1);
      else
        class_.push_back(class_of(instruction, number));
    }
  }

  // For each class of gathers with several members, these, in program order.
  std::vector<std::vector<int>> gathered_again() const {
    std::map<int, std::vector<int>> members;
    for (size_t i = 0; i < class_.size(); ++i)
      if (class_[i] >= 0 && graph_.instructions[i].is(ops::kAllGather))
        members[class_[i]].push_back(static_cast<int>(i));
    std::vector<std::vector<int>> several;
    for (auto& [number, list] : members)
      if (list.size() > 1) several.push_back(std::move(list));
    return several;
  }

 private:
  static size_t at(int index) { return static_cast<size_t>(index); }

  // The first instruction that computes the same; -1 where it is no weight.
  int class_of(const Instruction& instruction, int number) {
    const bool is_simple =
        instruction.results.size() == 1 && !instruction.operands.empty() &&
        !instruction.op->device_dependent &&
        (!instruction.op->communicates || instruction.is(ops::kAllGather) || instruction.is(ops::kAllReduce));
    if (!is_simple) return -1;
    std::vector<int> key;
    for (Value operand : instruction.operands) {
      if (class_[at(operand.instruction)] < 0) return -1;
      key.push_back(class_[at(operand.instruction)]);
    }
    std::vector<int>& known = known_[{instruction.op, key}];
    for (int other : known)
      if (graph_.instructions[at(other)].attributes == instruction.attributes) return other;
    known.push_back(number);
    return number;
  }

  const Graph& graph_;
  std::vector<int> class_;
  std::map<std::pair<const OpDef*, std::vector<int>>, std::vector<int>> known_;
};

int64_t bytes_of(const Graph& graph, int gather) { return graph.type({gather, 0}).bytes(); }

}  // namespace

Graph keep_weights(const Graph& graph, int64_t bytes) {
  std::map<int, int> kept;  // later gather -> the first one
  const std::vector<std::vector<int>> again = WeightClasses(graph).gathered_again();
  for (size_t c = again.size(); c-- > 0;) {
    if (bytes_of(graph, again[c][0]) > bytes) continue;
    bytes -= bytes_of(graph, again[c][0]);
    for (size_t i = 1; i < again[c].size(); ++i) kept[again[c][i]] = again[c][0];
  }
  if (kept.empty()) return graph;
  GraphRewriter rewriter(graph);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const auto found = kept.find(static_cast<int>(i));
    if (found == kept.end())
      rewriter.copy(static_cast<int>(i));
    else
      rewriter.replace({found->first, 0}, rewriter.mapped({found->second, 0}));
  }
  return eliminate_dead_code(rewriter.finish());
}

int64_t bytes_of_regathered_weights(const Graph& graph) {
  int64_t bytes = 0;
  for (const std::vector<int>& gathers : WeightClasses(graph).gathered_again())
    bytes += bytes_of(graph, gathers[0]);
  return bytes;
}

}  // namespace tessera
