// One computation of HLO text: its header, and its instructions with their operands resolved.
#pragma once

#include <string>

#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

// From [%]name to the closing brace; the header's (parameters) -> shape is optional and says
// nothing new. Operands precede their users, every name is given once, and there is one root (the
// last instruction where none is marked). Throws UserError.
HloComputation parse_computation(Lexer& lexer);

}  // namespace tessera::hlo
