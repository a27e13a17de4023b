// The payloads of constants: 1.5, {{1, 2}, {3, 4}}, (1, 2) of type c64, (0, {1, 2}) of a tuple.
#pragma once

#include <string>

#include "partitioner/hlo/lexer.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

// Reads a literal of `shape`. Integers must fit their type, and finite reals stay finite; NaNs may
// bear a sign and a payload, nan(0x12). Braces must count what the shape says; a tensor without
// elements may be written {}. Memory grows with the text, never with the shape alone.
// Throws UserError; {...} is an error that says how to print constants in full.
Literal parse_literal(Lexer& lexer, const HloShape& shape);

void refuse_elided(Lexer& lexer);  // of any type

// In full, every real in the fewest digits that read back the same.
void append_literal(std::string& out, const Literal& literal, const HloShape& shape);

// Whether all leaves are of types that Tessera has.
bool has_literal(const HloShape& shape);

}  // namespace tessera::hlo
