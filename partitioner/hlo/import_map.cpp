// map: a region of scalars, done on whole tensors.
#include "core/ir/parameter.h"
#include "core/ops/structure.h"
#include "partitioner/hlo/import_support.h"

namespace tessera::hlo {

void import_map(ImportContext& c) {
  Builder& b = c.builder();
  const GraphRef region = flat_region(c, "to_apply");
  if (static_cast<int>(region->inputs.size()) != c.operand_count() || c.operand_count() == 0)
    c.fail(cat("to_apply takes ", region->inputs.size(), " scalars, but there are ",
               c.operand_count(), " operands"));
  const Shape shape = b.shape(c.operand(0));
  std::vector<Value> first(region->instructions.size());  // result 0 of each
  for (size_t i = 0; i < region->inputs.size(); ++i) {
    const Value input = region->inputs[i].value, operand = c.operand(static_cast<int>(i));
    if (b.type(operand) != TensorType{region->type(input).dtype, shape})
      c.fail(cat("operand ", i, " is ", b.type(operand), ", but to_apply takes ",
                 region->type(input), " of operands of one shape"));
    first[static_cast<size_t>(input.instruction)] = operand;
  }
  for (size_t i = 0; i < region->instructions.size(); ++i) {
    const Instruction& scalar = region->instructions[i];
    if (scalar.is(ops::kParameter)) continue;
    if (scalar.is(ops::kConstant)) {
      const Value made = b.emit(ops::kConstant, {}, scalar.attributes);
      if (b.shape(made).rank() != 0)
        return c.unsupported(cat("opcode map with a tensor in its region"));
      first[i] = shape.rank() == 0 ? made : ops::broadcast_scalar(b, made, shape);
      continue;
    }
    if (!scalar.op->elementwise)
      return c.unsupported(cat("opcode map with ", scalar.op->name, " in its region"));
    std::vector<Value> operands;
    for (Value operand : scalar.operands)
      operands.push_back({first[static_cast<size_t>(operand.instruction)].instruction,
                          first[static_cast<size_t>(operand.instruction)].result});
    first[i] = b.emit(*scalar.op, std::move(operands), scalar.attributes);
  }
  std::vector<Value> results;
  for (const GraphOutput& output : region->outputs)
    results.push_back(first[static_cast<size_t>(output.value.instruction)]);
  c.set(std::move(results));
}

}  // namespace tessera::hlo
