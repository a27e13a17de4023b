// Loop-invariant code motion: what a loop body computes from values that never change in it is
// computed once, before the loop, and carried. A result of the loop that is such a value is replaced
// by the operand.
//
// Not moved: constants (they cost nothing), collectives and control flow with collectives in it, what
// carries the recompute tag (it is there to save memory), barriers, and what would keep more than
// `most_bytes` alive through the loop.
#pragma once

#include <cstdint>

#include "core/ir/graph.h"

namespace tessera {

struct LoopInvariantOptions {
  int64_t most_bytes = int64_t{1} << 28;  // of hoisted results, per loop
};

Graph hoist_loop_invariants(const Graph& graph, const LoopInvariantOptions& options = {});

}  // namespace tessera
