// Local identities that make graphs smaller without changing a bit of any result, except that
// dropping a convert pair keeps more precision.
//
//     x + 0, x - 0, x * 1, x / 1        -> x
//     -(-x), transpose of transpose, reshape of reshape  -> one or none
//     reshape or transpose or slice or convert that changes nothing  -> its operand
//     x + dynamic_update_slice(0, u, i) -> dynamic_update_slice(x, dynamic_slice(x, i) + u, i)
//                                          (the gradient of a slice, added up turn by turn)
//     convert(wide, dot_general(a, b))  -> dot_general(a, b) {dtype=wide}   (one use: products of
//                                          narrow operands give f32 gradients without rounding)
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph simplify_algebra(const Graph& graph);

}  // namespace tessera
