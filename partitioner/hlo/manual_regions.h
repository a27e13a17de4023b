// Manual regions (shard_map) as the text has them, made into one form before import: an instruction
// of opcode custom-call and target kManualCall that calls the region as a computation.
//
//   new style   y = xla.sdy.GlobalToLocalShape(x); z = call(y), to_apply=body;
//               r = xla.sdy.LocalToGlobalShape(z)
//   old style   s = Sharding(x); y = SPMDFullToShardShape(s); ... any instructions ...;
//               r = SPMDShardToFullShape(z)
//   both        r = kManualCall(x), to_apply=body, in_shardings, out_shardings, manual axes
//
// Private to the importer.
#pragma once

#include <string>
#include <vector>

#include "partitioner/hlo/module.h"

namespace tessera::hlo {

inline constexpr std::string_view kManualCall = "tessera.manual_computation";
inline constexpr std::string_view kFullToShard = "SPMDFullToShardShape";
inline constexpr std::string_view kShardToFull = "SPMDShardToFullShape";
inline constexpr std::string_view kGlobalToLocal = "xla.sdy.GlobalToLocalShape";
inline constexpr std::string_view kLocalToGlobal = "xla.sdy.LocalToGlobalShape";

// Of a kManualCall, beside to_apply:
//   in_shardings, out_shardings   a tuple HloSharding, one element per operand and result
//   in_unspecified, out_unspecified   IntLists: open dims of tile assignments; may be absent
//   manual, outside               HloSharding: one of a value inside and of one outside. Manual are
//   the
//                                 axes that are so in `manual` but not in `outside`

bool is_custom_call(const HloInstruction& instruction, std::string_view target);

// The computations that an instruction runs on its operands: callees, bodies, branches; not
// combiners.
std::vector<std::string> called_by(const HloInstruction& instruction);

// Old style: the regions of computation `c` become computations that stand before it. Returns how
// many there are. Those inside of them are done by another run over the new computations.
int outline_shard_shapes(HloModule& module, int c);

// Drops the instructions of `dropped`, and those among `candidates` that nothing uses then;
// operands are numbered anew. By instruction.
void drop_unused(HloComputation& computation, std::vector<bool> dropped,
                 const std::vector<bool>& candidates);

}  // namespace tessera::hlo
