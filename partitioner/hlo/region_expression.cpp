#include "partitioner/hlo/region_expression.h"

#include <algorithm>

#include "core/ir/parameter.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"

namespace tessera::hlo {
namespace {

constexpr size_t kMostInstructions = 64, kMostText = 4000;

bool is_symmetric(const Instruction& instruction) {
  if (instruction.op->commutative) return true;
  if (!instruction.is(ops::kCompare)) return false;
  const auto direction = instruction.attributes.get<CompareDirection>(Attr::direction);
  return direction == CompareDirection::eq || direction == CompareDirection::ne;
}

std::string attributes_text(const Instruction& instruction) {
  std::string text;
  for (const auto& [key, value] : instruction.attributes.entries())
    text += cat(text.empty() ? "{" : ",", print_attribute(key, value, nullptr));
  return text.empty() ? text : text + "}";
}

}  // namespace

std::string expression_of(const Graph& region, Value value) {
  const size_t count = static_cast<size_t>(value.instruction) + 1;
  if (count > kMostInstructions) return "";
  // Operands stand before their users, so one sweep makes all texts.
  std::vector<std::string> texts(count);
  for (size_t i = 0; i < region.inputs.size(); ++i)
    if (const auto at = static_cast<size_t>(region.inputs[i].value.instruction); at < count)
      texts[at] = cat(i);
  for (size_t i = 0; i < count; ++i) {
    const Instruction& instruction = region.instructions[i];
    if (instruction.is(ops::kParameter)) continue;
    // Of anything else there is no text, nor of what uses it.
    if (!instruction.op->elementwise && !instruction.is(ops::kConstant)) continue;
    std::vector<std::string> operands;
    bool is_complete = true;
    for (Value operand : instruction.operands) {
      operands.push_back(texts[static_cast<size_t>(operand.instruction)]);
      is_complete = is_complete && !operands.back().empty();
    }
    if (!is_complete) continue;
    if (is_symmetric(instruction)) std::sort(operands.begin(), operands.end());
    texts[i] =
        cat(instruction.op->name, attributes_text(instruction), "(", join(operands, ","), ")");
    if (texts[i].size() > kMostText) texts[i].clear();
  }
  return texts.back();
}

std::string expression_of(const Graph& region, int output) {
  return expression_of(region, region.outputs[static_cast<size_t>(output)].value);
}

}  // namespace tessera::hlo
