// Where every buffer lies: in-place updates, arenas, offsets.
//
// Memory is placed per class: a root buffer with all that aliases it. A class is live from the
// first write's step to the last use's; a collective uses its operands from start to done. Kernels
// that can work in place write over an operand whose class ends there, which joins the two classes.
// So does a loop over the values that it carries. What stands inside a loop lives within a turn or,
// if it comes from outside or goes out, from the loop's begin to its end.
#pragma once

#include <vector>

#include "core/compile/scheduler.h"
#include "core/compile/step_graph.h"

namespace tessera {

// Completes `steps.buffers` (aliases, arena, offset, first and last step; workspaces are appended)
// for the given order, in which action i is step i of the executable.
// `steps` are flat (core/compile/flatten.h), `graph` the one that they were built from.
MemoryReport plan_memory(StepGraph& steps, const Graph& graph, const std::vector<Action>& actions);

}  // namespace tessera
