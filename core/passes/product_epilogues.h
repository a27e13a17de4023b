// Matrix products take up what happens to their results next, where the backend has a kernel for it:
//
//     %1 = dot_general(%x, %w)
//     %2 = add(%1, broadcast_in_dim(%b))          %2 = dot_general_bias(%x, %w, %b)
//
//     %3 = gelu(%2)                               %3, %2 = dot_general_bias_gelu(%x, %w, %b)
//
//     %4 = dot_general(%dy, %w)
//     %5 = gelu_grad(%2, %4)                      %5 = dot_general_gelu_grad(%dy, %w, %2)
//
//     %8 = scaled_dot_general(%q, %w, %s, %t, %b)
//     %9 = gelu(%8)                               %9, %8 = scaled_dot_general_gelu(%q, %w, %s, %t, %b)
//
//     %6 = reduce(convert(%dy)) {sum}
//     %7 = dot_general_add(%acc, %x, %dy)         %7, %6 = dot_general_bias_grad(%x, %dy, %acc)
//
// Why: each of the left sides reads and writes an activation once more than the right one. In a GPT's MLP of T
// tokens and width 4 d in bf16 the bias and GELU cost 2 x 8 T d bytes less so, and the gradients of GELU and bias,
// whose terms were written in f32 to be summed, 6 x 8 T d bytes.
//
// Only a product that nobody else reads is taken, GELU in its tanh form, and a bias that stands along all of rhs'
// free dims. Products are no longer rounded before the epilogue: results differ by that, and not more. What the
// gradient of GELU reads is what the fused forward product wrote.
//
// Runs on local graphs, behind accumulate_products and fuse_product_scales, before fuse_elementwise (which would take
// the same ops).
#pragma once

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

// Where only the reference would run the fused op, everything stays as it is.
Graph fuse_product_epilogues(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
