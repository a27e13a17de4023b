// Passes that merge instructions into one do so only where a kernel of the backend computes it: elsewhere
// the parts have kernels and the whole would fall to the reference.
#pragma once

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

// Whether a kernel other than the reference accepts op(operands).
inline bool kernel_accepts(const KernelTable& kernels, const OpDef& op, const std::vector<TensorType>& operands,
                           const Attributes& attributes) {
  const OpCall call{operands, attributes};
  return !kernels.choose(op, call, infer_types(op, call)).kernel->is_reference;
}

}  // namespace tessera
