// The one op that the IR itself stands on: an input of a graph. All others live in core/ops.
#pragma once

#include "core/ir/op_def.h"

namespace tessera::ops {

// parameter {index, name, shape, dtype}: no operands; result of the given type.
extern const OpDef kParameter;

}  // namespace tessera::ops
