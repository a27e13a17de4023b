// The parts of softmax cross-entropy and the gradient of the logits become one pass over the logits:
//
//     %2 = logits_max(%x)                              %5 = multiply(%z, 2)
//     %3, %4 = logits_sum(%x, %2, %t)                  %2, %3, %4, %9 =
//     %6 = %2 + log(%3)                                    cross_entropy_with_grad(%x, %t, %d, %w, %5)
//     %7 = (%w + %z * %6 + %z * %6) / %3          ->   %6 = %2 + log(%3)
//     %9 = logits_sum_grad(%x, %2, %t, %7, %d)
//
// That needs the cotangents before the logits are read: what `d_target` and `d_sum` are made of must not
// depend on the loss's parts, but for lse = max + log(sum), in which d_sum * sum may be linear (the
// gradient of a z-loss). In training they are the tokens' weights. Where shards of the vocabulary combine
// their parts, a collective stands between, and nothing is merged.
#pragma once

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

// `graph` is local. What no kernel of the table accepts stays as it is.
Graph fuse_cross_entropy(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
