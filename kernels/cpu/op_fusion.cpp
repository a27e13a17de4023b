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

// Over an operand with as many elements of the same width: such a one is read at the position that
// is written, and tiles are written after all their reads. Each operand serves one result.
int in_place(const OpCall& call, int result) {
  const Graph& body = *call.attributes.get<GraphRef>(Attr::body);
  std::vector<bool> taken(call.operands.size(), false);
  for (int r = 0;; ++r) {
    const TensorType& type = body.type(body.outputs[static_cast<size_t>(r)].value);
    int found = -1;
    for (size_t i = 0; i < call.operands.size() && found < 0; ++i) {
      const TensorType& operand = call.operands[i];
      if (!taken[i] && operand.elements() == type.elements() && size_of(operand.dtype) == size_of(type.dtype)) {
        found = static_cast<int>(i);
      }
    }
    if (r == result) return found;
    if (found >= 0) taken[static_cast<size_t>(found)] = true;
  }
}

}  // namespace

void register_fusion(KernelTable& table) {
  Kernel kernel = make_kernel("cpu.fusion", accept, run);
  kernel.in_place = in_place;
  table.add(ops::kFusion, kernel);
}

}  // namespace tessera::cpu
