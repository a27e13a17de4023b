// Regions of scalars as text, to recognise the ones that JAX emits: equal text is equal meaning.
//
//     (a, b) -> select(compare{gt}(a, b), a, b)      "select(compare{gt}(0,1),0,1)"
//
// Inputs are numbers, operands of commutative ops stand in order of their text.
#pragma once

#include <string>

#include "core/ir/graph.h"

namespace tessera::hlo {

// "" where the expression is too large to be one of those looked for, or is more than elementwise
// ops.
std::string expression_of(const Graph& region, Value value);
std::string expression_of(const Graph& region, int output = 0);

}  // namespace tessera::hlo
