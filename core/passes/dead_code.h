// Removes instructions that no output needs, and of control flow the results, carried values and
// operands that none does: a loop carries only what its condition or a used result comes to depend on.
// Inputs of the graph stay, used or not: they are its boundary.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph eliminate_dead_code(const Graph& graph);

}  // namespace tessera
