#include "core/ir/builder.h"

#include "core/ir/parameter.h"

namespace tessera {

Value Builder::emit(const OpDef& op, std::vector<Value> operands, Attributes attributes) {
  Instruction instruction;
  instruction.op = &op;
  instruction.operands = std::move(operands);
  instruction.attributes = std::move(attributes);
  instruction.scope = scope_;
  instruction.recompute = recompute_;
  for (Value operand : instruction.operands)
    TESSERA_CHECK(operand.valid() && operand.instruction < static_cast<int>(graph_.instructions.size()),
                  op.name, ": operand is not a value of this graph");
  const std::vector<TensorType> types = graph_.operand_types(instruction);
  try {
    for (TensorType& type : infer_types(op, {types, instruction.attributes}))
      instruction.results.push_back({std::move(type), {}, {}, {}});
  } catch (const UserError& error) {
    if (scope_.empty()) throw;
    throw_user_error(scope_, ": ", error.what());
  }
  graph_.instructions.push_back(std::move(instruction));
  return {static_cast<int>(graph_.instructions.size()) - 1, 0};
}

Value Builder::input(InputKind kind, std::string name, TensorType type,
                     std::vector<std::string> logical_axes) {
  const std::string outer = std::exchange(scope_, "");
  const Value value = emit(ops::kParameter, {},
                           {{Attr::index, static_cast<int64_t>(graph_.inputs.size())},
                            {Attr::name, name},
                            {Attr::shape, Ints(type.shape.begin(), type.shape.end())},
                            {Attr::dtype, type.dtype}});
  scope_ = outer;
  graph_.inputs.push_back({value, kind});
  return annotate(value, std::move(logical_axes), std::move(name));
}

void Builder::output(Value value, std::string name, int alias_input) {
  if (alias_input >= 0) {
    const TensorType& wanted = type(graph_.inputs[static_cast<size_t>(alias_input)].value);
    TESSERA_CHECK(wanted == type(value), "output ", name, " of type ", type(value),
                  " cannot overwrite an input of type ", wanted);
  }
  graph_.outputs.push_back({value, std::move(name), alias_input, {}});
}

Value Builder::annotate(Value value, std::vector<std::string> logical_axes, std::string name) {
  ResultInfo& info = graph_.info(value);
  if (!logical_axes.empty()) {
    TESSERA_CHECK(static_cast<int>(logical_axes.size()) == info.type.rank(), "logical axes [",
                  join(logical_axes), "] for ", info.type);
    info.logical_axes = std::move(logical_axes);
  }
  if (!name.empty()) info.name = std::move(name);
  return value;
}

void Builder::push_scope(const std::string& name) {
  scope_ = scope_.empty() ? name : cat(scope_, "/", name);
}

void Builder::pop_scope() {
  const size_t slash = scope_.rfind('/');
  scope_.resize(slash == std::string::npos ? 0 : slash);
}

}  // namespace tessera
