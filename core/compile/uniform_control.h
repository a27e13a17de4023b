// A loop or branch with collectives inside must go the same way on every device of their groups, or
// some wait for ever for the others.
//
// Proved from the graph: a value may differ along the axes that its sharding names (partial ones
// too); where it has no sharding, along those of its operands, of an axis_index, of a line's end.
// Reductions and gathers over an axis take it away. The predicate must not differ along the axes of
// any collective inside. (The executor's option check_uniform compares the ranks' predicates.)
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Throws UserError naming the loop or branch, the axis and the collective.
void check_uniform_control(const Graph& local);

}  // namespace tessera
