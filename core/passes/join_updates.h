// Updates of many tensors become one op, and so do their sums of squares, which saves what each costs
// beside its bytes (on a GPU a launch, on CPUs a parallel loop):
//
//     %10, %11, %12 = adamw(%w, %m, %v, %g, %rate, %scale, %b1, %b2)
//     %13, %14, %15 = adamw(%w', %m', %v', %g', %rate, %scale, %b1, %b2)
//   ->
//     %10, ..., %15 = multi_adamw(%w, %m, %v, %g, %w', %m', %v', %g', %rate, %scale, %b1, %b2)
//
// Members have the same scalars and types; weight decays may differ. Every result still lies over its
// operand, so nothing is copied. What must not wait for others does not join them: sums of squares join
// those that wait for the same collective (a bucket of gradients), and updates that collectives read (the
// gathers of zero1) go in groups of kReadGroupBytes, so that the first are on their way while the next
// are computed.
#pragma once

#include <cstdint>

#include "core/ir/graph.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

constexpr int64_t kReadGroupBytes = 32 << 20;  // of parameters

// `graph` is local. What no kernel of the table accepts stays as it is.
Graph join_updates(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
