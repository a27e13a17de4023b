// What a program must be before it can be partitioned.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Throws UserError, naming op and location, where the graph does not verify, or where a collective
// or anything else that tells devices apart stands outside a manual computation: there a program is
// as if for one device.
void check_program(const Graph& graph);

}  // namespace tessera
