#include "core/ir/rewriter.h"

#include "core/ir/parameter.h"

namespace tessera {

GraphRewriter::GraphRewriter(const Graph& source)
    : source_(source), builder_(result_), map_(source.instructions.size()) {
  result_.name = source.name;
  result_.mesh = source.mesh;
  result_.is_local = source.is_local;
  result_.masks_padding = source.masks_padding;
  result_.instructions.reserve(source.instructions.size());
}

Value GraphRewriter::copy(int index) {
  Instruction instruction = source_.instructions[static_cast<size_t>(index)];
  for (Value& operand : instruction.operands) operand = mapped(operand);
  const Value made = append(std::move(instruction));
  for (size_t r = 0; r < source_.instructions[static_cast<size_t>(index)].results.size(); ++r)
    replace({index, static_cast<int>(r)}, {made.instruction, static_cast<int>(r)});
  return made;
}

Value GraphRewriter::append(Instruction instruction) {
  const Value made{static_cast<int>(result_.instructions.size()), 0};
  if (instruction.is(ops::kParameter)) parameters_[instruction.attributes.integer(Attr::index)] = made;
  result_.instructions.push_back(std::move(instruction));
  return made;
}

void GraphRewriter::replace(Value old_value, Value new_value) {
  auto& results = map_[static_cast<size_t>(old_value.instruction)];
  results.resize(source_.at(old_value).results.size());
  results[static_cast<size_t>(old_value.result)] = new_value;
}

bool GraphRewriter::has(Value old_value) const {
  const auto& results = map_[static_cast<size_t>(old_value.instruction)];
  return static_cast<size_t>(old_value.result) < results.size() &&
         results[static_cast<size_t>(old_value.result)].valid();
}

Value GraphRewriter::mapped(Value old_value) const {
  TESSERA_CHECK(has(old_value), describe(source_, old_value), " was not rewritten before its use");
  return map_[static_cast<size_t>(old_value.instruction)][static_cast<size_t>(old_value.result)];
}

Graph GraphRewriter::finish() {
  // By number: the users of an input may have been given something else in its place.
  for (size_t i = 0; i < source_.inputs.size(); ++i) {
    const auto made = parameters_.find(static_cast<int64_t>(i));
    TESSERA_CHECK(made != parameters_.end(), "input ", i, " of graph \"", source_.name, "\" was not rewritten");
    result_.inputs.push_back({made->second, source_.inputs[i].kind});
  }
  for (const GraphOutput& output : source_.outputs) {
    GraphOutput copied = output;
    copied.value = mapped(output.value);
    result_.outputs.push_back(std::move(copied));
  }
  return std::move(result_);
}

}  // namespace tessera
