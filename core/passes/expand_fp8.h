// Products in fp8 (core/ops/fp8_product.h) become primitives, which partitioning, fusion and kernels know:
//
//     %y = dot_general_fp8(%x, %w)
//
//     %a = max_abs(%x)                            of %w alike
//     %r = reduce_precision(maximum(%a, 2^-100)) {exponent_bits=8, mantissa_bits=0}
//     %s = multiply(%r, 2^-8)
//     %q = convert(multiply(convert(%x), broadcast(divide(1, %s)))) {dtype=f8e4m3fn}
//     %p = dot_general(%q, %qw) {dtype=f32, or bf16 where %y is}
//     %y = multiply(%p, broadcast(multiply(%s, %sw)))
//
// %s and %sw are powers of two, so that %p and %y are rounded alike.
//
// Why before partitioning: max_abs of shards is partial, of kind max, so the ordinary machinery makes every mesh
// quantise alike; and a weight or activation that is gathered can be gathered as bytes. A value is quantised once per
// format: forward and backward products share it, so that what is kept for the backward pass is the f8 one.
// A recomputed value (rematerialisation) is quantised anew.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph expand_fp8_products(const Graph& graph);

}  // namespace tessera
