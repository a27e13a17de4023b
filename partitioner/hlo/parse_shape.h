// Shapes in HLO text: f32[8,16]{1,0:T(8,128)}, (s32[], f32[8]{0}), token[], f32[<=8].
#pragma once

#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

// Throws UserError: nesting or rank above kMaxDepth, a negative extent, more than 2^62 bytes.
// Shapes with bounds (<=8) or unknown extents (?) become an element type of no DType that bears the
// whole text, since nothing that follows could compute with them.
HloShape parse_shape(Lexer& lexer);
bool at_shape(Lexer& lexer);  // an opening parenthesis, or a word directly before `[`

void append_shape(std::string& out, const HloShape& shape, bool with_layout);

}  // namespace tessera::hlo
