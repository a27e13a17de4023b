#include "partitioner/split_constants.h"

#include "core/ir/rewriter.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

// Larger expressions are computed once, whoever wants them.
constexpr int kMostInstructions = 8;

bool may_be_copied(const Instruction& instruction) {
  const OpDef& op = *instruction.op;
  return !op.has_state && !op.communicates && !op.device_dependent && !has_control_flow(instruction) &&
         instruction.results.size() == 1 && instruction.results[0].name.empty() &&
         instruction.results[0].groups.empty() && !instruction.results[0].sharding &&
         !instruction.attributes.has(Attr::seed);
}

// By instruction, how many it takes to make its value anew from constants, iotas and scalars; 0 where
// that cannot be had, or not cheaply.
std::vector<int> costs_of_copies(const Graph& graph) {
  std::vector<int> costs(graph.instructions.size(), 0);
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (!may_be_copied(instruction) || instruction.results[0].type.rank() == 0) continue;
    int cost = 1;
    for (Value operand : instruction.operands) {
      if (graph.type(operand).rank() == 0) continue;
      const int inner = costs[static_cast<size_t>(operand.instruction)];
      cost = inner == 0 || !instruction.op->elementwise ? kMostInstructions + 1 : cost + inner;
    }
    if (cost <= kMostInstructions) costs[i] = cost;
  }
  return costs;
}

class Splitter {
 public:
  explicit Splitter(const Graph& graph)
      : graph_(graph), rewriter_(graph), costs_(costs_of_copies(graph)) {}

  Graph run() {
    std::vector<int> uses_left(graph_.instructions.size(), 0);
    for (const Instruction& instruction : graph_.instructions)
      for (Value operand : instruction.operands)
        ++uses_left[static_cast<size_t>(operand.instruction)];
    for (size_t i = 0; i < graph_.instructions.size(); ++i) {
      Instruction copy = graph_.instructions[i];
      for (Value& operand : copy.operands) {
        const auto producer = static_cast<size_t>(operand.instruction);
        // The last use takes the original, every one before it a copy.
        operand = --uses_left[producer] > 0 && costs_[producer] > 0 ? again(operand)
                                                                     : rewriter_.mapped(operand);
      }
      const Value made = rewriter_.append(std::move(copy));
      for (size_t r = 0; r < graph_.instructions[i].results.size(); ++r)
        rewriter_.replace({static_cast<int>(i), static_cast<int>(r)},
                          {made.instruction, static_cast<int>(r)});
    }
    return rewriter_.finish();
  }

 private:
  Value again(Value value) {
    Instruction copy = graph_.at(value);
    for (Value& operand : copy.operands)
      operand = costs_[static_cast<size_t>(operand.instruction)] > 0 ? again(operand)
                                                                     : rewriter_.mapped(operand);
    return rewriter_.append(std::move(copy));
  }

  const Graph& graph_;
  GraphRewriter rewriter_;
  std::vector<int> costs_;
};

}  // namespace

Graph split_constants(const Graph& graph) {
  return with_regions(graph, [](const Graph& each) { return Splitter(each).run(); });
}

}  // namespace tessera
