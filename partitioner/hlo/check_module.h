// What the parser checks once all computations are read.
#pragma once

#include <string>
#include <vector>

#include "partitioner/hlo/module.h"

namespace tessera::hlo {

// Calls nest at most this deep, so that whatever walks them may recurse.
inline constexpr int kMaxCallDepth = 256;

// The computations that an instruction names, in the order of its attributes.
std::vector<std::string> called_computations(const HloInstruction& instruction);

// Puts callees before their callers, otherwise in the order of the text with the entry last. Throws
// UserError: a name given twice or never, a cycle, calls nested too deep.
void order_computations(HloModule& module);

// Numbers of operands, parameters numbered 0, 1, ..., aliases and donors that name arrays of the
// entry computation. Throws UserError.
void check_module(const HloModule& module);

// As many operands as the opcode takes; opcodes that the table lacks take any number.
void check_arity(const HloInstruction& instruction);

}  // namespace tessera::hlo
