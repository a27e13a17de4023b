// Complex numbers become pairs of reals: what adds, multiplies, moves or sums c64 values is done on
// real and imaginary parts instead, so that kernels of reals and elementwise fusion serve them.
//
//     %2 = complex(%0, %1)                      %5 = multiply(%0, %a), %6 = multiply(%1, %b)
//     %4 = real(multiply(%2, %3))          ->   %4 = subtract(%5, %6)        (%3 = %a + %b i)
//
// A value is made whole again only where something needs it whole: an output, a collective, a loop's
// operand, an op that is not listed in split_complex.cpp. Numerically each part is rounded to f32
// after every real operation, as XLA has it, where the reference rounds a complex result once.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph split_complex(const Graph& graph);

}  // namespace tessera
