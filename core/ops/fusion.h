// Several elementwise instructions as one kernel.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// fusion{body}(xs...) -> the outputs of the body graph. Operand i is input i of the body, whose
// instructions are elementwise ops, broadcast_in_dim and constants.
extern const OpDef kFusion;
std::vector<Value> fusion(Builder& b, GraphRef body, std::vector<Value> operands);

// Whether a body may hold `op`.
bool is_fusible(const OpDef& op);

}  // namespace tessera::ops
