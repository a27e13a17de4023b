// Which instructions move no data: their result lies in their operand's memory.
#pragma once

#include <cstdint>
#include <optional>

#include "core/ir/graph.h"

namespace tessera {

// Bytes; where every planned buffer begins, a view in its operand too.
inline constexpr int64_t kBufferAlignment = 64;

// A collective (or all_slice, replicated_to_partial) over one device: the identity.
bool is_trivial_collective(const Instruction& instruction);

// Byte offset in operand 0 at which the dense row-major result lies, or nullopt where it must be
// computed. Offsets are multiples of 64 bytes, so that kernels may rely on alignment.
std::optional<int64_t> view_offset(const Graph& graph, const Instruction& instruction);

// Byte offsets of the operands in the result of a concatenate whose operands are whole blocks of
// it; empty where they are not.
std::vector<int64_t> member_offsets(const Graph& graph, const Instruction& instruction);

}  // namespace tessera
