// Products of f8 operands take up their scales, and what follows, where the backend has a kernel for it:
//
//     %p = dot_general(%q, %w)
//     %y = multiply(%p, broadcast(convert(multiply(%s, %t))))
//     %z = convert(%y)
//     %b = add(%z, broadcast_in_dim(%bias))            %b = scaled_dot_general(%q, %w, %s, %t, %bias)
//
// The longest beginning of that chain that a kernel takes; either conversion may be absent. Why: the product is written
// once, instead of to be read again: in bf16 4 bytes an element less.
//
// Runs on local graphs, before accumulate_products, which adds what it makes to accumulators, fuse_product_epilogues,
// which applies GELU to it, and fuse_elementwise, which would take the same ops. Only a product that nobody else reads
// is taken. What is in between is no longer rounded: the product with a bias is rounded once.
#pragma once

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

// Where only the reference would run the fused op, everything stays as it is.
Graph fuse_product_scales(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
