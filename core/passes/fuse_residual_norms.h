// Sums of a residual stream join the norms beside them, which saves one pass over the activations in the
// forward direction and two of six in the backward one:
//
//     %2 = add(%x, %r)                              %3, %4, %5, %2 = add_layer_norm(%x, %r, %g, %b)
//     %3, %4, %5 = layer_norm(%2, %g, %b)       ->
//     %8, %9, %10 = layer_norm_grad(%2, ...)        %11, %9, %10 = layer_norm_grad_add(%2, ..., %d)
//     %11 = add(%8, %d)
//
// and likewise for rms_norm. A sum whose operand is itself elementwise and read by nobody else (a product
// with a bias that no epilogue has taken) stays with that chain: apart they would cost what is saved. The
// norm sees the rounded sum, as before; the gradient's sum is rounded once instead of twice.
#pragma once

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

// `graph` is local. What no kernel of the table accepts stays as it is.
Graph fuse_residual_norms(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
