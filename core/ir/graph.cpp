#include "core/ir/graph.h"

#include <array>

namespace tessera {

std::string_view name_of(InputKind kind) {
  static constexpr std::array<std::string_view, 5> kNames = {"data", "parameter", "optimizer",
                                                             "accumulator", "scalar"};
  return kNames[static_cast<size_t>(kind)];
}

const Sharding& Graph::sharding(Value value) const {
  const ResultInfo& result = info(value);
  TESSERA_CHECK(result.sharding.has_value(), describe(*this, value), " has no sharding");
  return *result.sharding;
}

std::vector<TensorType> Graph::operand_types(const Instruction& instruction) const {
  std::vector<TensorType> types;
  types.reserve(instruction.operands.size());
  for (Value operand : instruction.operands) types.push_back(type(operand));
  return types;
}

std::vector<TensorType> Graph::result_types(const Instruction& instruction) {
  std::vector<TensorType> types;
  types.reserve(instruction.results.size());
  for (const ResultInfo& result : instruction.results) types.push_back(result.type);
  return types;
}

std::vector<std::vector<Graph::Use>> Graph::uses() const {
  std::vector<std::vector<Use>> uses(instructions.size());
  for (size_t i = 0; i < instructions.size(); ++i)
    for (size_t o = 0; o < instructions[i].operands.size(); ++o) {
      const Value operand = instructions[i].operands[o];
      uses[static_cast<size_t>(operand.instruction)].push_back(
          {static_cast<int>(i), static_cast<int>(o), operand.result});
    }
  return uses;
}

int Graph::find_input(std::string_view name) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (info(inputs[i].value).name == name) return static_cast<int>(i);
  return -1;
}

int Graph::find_output(std::string_view name) const {
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].name == name) return static_cast<int>(i);
  return -1;
}

std::string describe(const Graph& graph, Value value) {
  if (!value.valid()) return "(no value)";
  const Instruction& instruction = graph.at(value);
  const ResultInfo& info = graph.info(value);
  const std::string number =
      cat("%", value.instruction, instruction.results.size() > 1 ? cat(":", value.result) : "");
  if (!info.name.empty()) return cat('"', info.name, "\" (", number, ")");
  return cat(number, " (", instruction.op->name,
             instruction.scope.empty() ? "" : cat(" in ", instruction.scope), ")");
}

FactorRule factor_rule(const Graph& graph, const Instruction& instruction) {
  return with_call(graph, instruction, [&](const OpCall& call) {
    return factor_rule(*instruction.op, call, Graph::result_types(instruction));
  });
}

}  // namespace tessera
