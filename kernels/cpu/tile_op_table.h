// From the IR's elementwise ops to tile operations.
#pragma once

#include <optional>

#include "core/ir/graph.h"
#include "kernels/cpu/tile_program.h"

namespace tessera::cpu {

// The tile operation that computes `op` with these attributes; nullopt where tiles have none.
std::optional<TileOp> tile_op_of(const OpDef& op, const Attributes& attributes);

// Every op for which there may be one.
std::span<const OpDef* const> tile_ops();

}  // namespace tessera::cpu
