// Pass 3: which mesh axes each op computes over. This decides the speed of a step.
//
// For each op, in topological order: candidates are made from the lyings of its operands (as their
// producers will leave them) and the wanted lyings of its results (from propagation): all tensors
// together, largest first; each tensor first; each (factor, axes) first; each tensor alone; none.
// At most 64. The cheapest wins; ties go to the earlier candidate:
//
//     reshards of operands + compute time on the shard + reshard of results to what is wanted,
//
// where partial results that every user passes on to a partial output are free. Ops that look alike
// and whose tensors lie alike share the choice.
#pragma once

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

// Sets Instruction::factor_axes of every instruction; shardings stay as propagated (the wishes).
Graph choose_op_shardings(const Graph& graph, ReshardPlanner& planner);

}  // namespace tessera
