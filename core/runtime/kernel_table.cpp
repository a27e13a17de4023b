#include "core/runtime/kernel_table.h"

#include <cstring>

#include "core/base/error.h"

namespace tessera {
namespace {

// Copies in and out of HostTensors, which is what OpDef::eval speaks. Because all operands are read
// before any result is written, results may lie over operands.
void run_reference(const KernelArgs& args) {
  std::vector<HostTensor> operands, results;
  std::vector<TensorType> types;
  std::vector<const HostTensor*> pointers;
  operands.reserve(args.operands.size());
  for (const TensorView& view : args.operands) {
    HostTensor& tensor = operands.emplace_back(view.type);
    if (!tensor.bytes().empty())
      std::memcpy(tensor.bytes().data(), view.data, tensor.bytes().size());
    types.push_back(view.type);
  }
  for (const HostTensor& tensor : operands) pointers.push_back(&tensor);
  for (const TensorView& view : args.results) results.emplace_back(view.type);
  const OpDef& op = *args.instruction.op;
  TESSERA_CHECK(op.eval != nullptr, "op ", op.name, " has no eval");
  op.eval({types, args.instruction.attributes}, pointers, results);
  for (size_t r = 0; r < results.size(); ++r)
    if (!results[r].bytes().empty())
      std::memcpy(args.results[r].data, results[r].bytes().data(), results[r].bytes().size());
}

}  // namespace

const Kernel& reference_kernel() {
  static const Kernel kernel = [] {
    Kernel made;
    made.name = "reference";
    made.run = run_reference;
    made.in_place_any = true;
    made.is_reference = true;
    return made;
  }();
  return kernel;
}

void KernelTable::add(const OpDef& op, Kernel kernel) {
  TESSERA_CHECK(kernel.run != nullptr, "kernel ", kernel.name, " for ", op.name, " cannot run");
  kernels_[&op].push_back(std::move(kernel));
}

KernelTable::Choice KernelTable::choose(const OpDef& op, const OpCall& call,
                                        std::span<const TensorType> results) const {
  Choice choice{reference_ ? &*reference_ : &reference_kernel(), {}};
  const auto candidates = kernels_.find(&op);
  if (candidates == kernels_.end()) return choice;
  for (const Kernel& kernel : candidates->second) {
    std::optional<std::string> refusal;
    if (kernel.accept) refusal = kernel.accept(call, results);
    if (!refusal) {
      choice.kernel = &kernel;
      return choice;
    }
    choice.refusals.push_back(cat(kernel.name, ": ", *refusal));
  }
  return choice;
}

}  // namespace tessera
