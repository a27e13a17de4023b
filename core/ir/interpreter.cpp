#include "core/ir/interpreter.h"

namespace tessera {

std::vector<HostTensor> interpret(const Graph& graph, std::span<const HostTensor> inputs,
                                  const std::function<void(Value, const HostTensor&)>& observe) {
  if (inputs.size() != graph.inputs.size())
    throw_user_error("graph \"", graph.name, "\" takes ", graph.inputs.size(), " inputs, got ", inputs.size());
  // A value is dropped after its last use, so that large graphs fit.
  std::vector<int> last_use(graph.instructions.size(), -1);
  for (size_t i = 0; i < graph.instructions.size(); ++i)
    for (Value operand : graph.instructions[i].operands) last_use[operand.instruction] = static_cast<int>(i);
  for (const GraphOutput& output : graph.outputs)
    last_use[output.value.instruction] = static_cast<int>(graph.instructions.size());

  std::vector<std::vector<HostTensor>> values(graph.instructions.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value value = graph.inputs[i].value;
    if (inputs[i].type() != graph.type(value))
      throw_user_error("graph \"", graph.name, "\": input ", describe(graph, value), " is ",
                       graph.type(value), ", got ", inputs[i].type());
    values[value.instruction] = {inputs[i]};
  }
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (values[i].empty()) {
      std::vector<const HostTensor*> operands;
      for (Value operand : instruction.operands)
        operands.push_back(&values[operand.instruction][operand.result]);
      for (const ResultInfo& result : instruction.results) values[i].emplace_back(result.type);
      with_call(graph, instruction, [&](const OpCall& call) {
        TESSERA_CHECK(instruction.op->eval != nullptr, "op ", instruction.op->name, " has no eval");
        instruction.op->eval(call, operands, values[i]);
      });
    }
    if (observe)
      for (size_t r = 0; r < values[i].size(); ++r)
        observe({static_cast<int>(i), static_cast<int>(r)}, values[i][r]);
    for (Value operand : instruction.operands)
      if (last_use[operand.instruction] == static_cast<int>(i)) values[operand.instruction].clear();
  }
  std::vector<HostTensor> outputs;
  for (const GraphOutput& output : graph.outputs)
    outputs.push_back(values[output.value.instruction][output.value.result]);
  return outputs;
}

}  // namespace tessera
