#include "core/ops/fusion.h"

#include "kernels/cpu/fusion_program.h"
#include "kernels/cpu/op_support.h"
#include "kernels/cpu/register.h"

namespace tessera::cpu {
namespace {

Refusal accept(const OpCall& call, Results) {
  const auto compiled = fusion_program(call.attributes.get<GraphRef>(Attr::body));
  if (compiled->program) return std::nullopt;
  return compiled->refusal;
}

void run(const KernelArgs& args) {
  const auto compiled = fusion_program(args.instruction.attributes.get<GraphRef>(Attr::body));
  TESSERA_CHECK(compiled->program.has_value(), compiled->refusal);
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  for (const TensorView& view : args.operands) inputs.push_back(view.data);
  for (const TensorView& view : args.results) outputs.push_back(view.data);
  compiled->program->run(inputs, outputs);
}

}  // namespace

void register_fusion(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.fusion", accept, run);
  // An operand with as many elements of the same width is read at the position that is written, and
  // tiles are written after all their reads.
  kernel.in_place_any = true;
  table.add(ops::kFusion, kernel);
}

}  // namespace tessera::cpu
