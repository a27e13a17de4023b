// Collectives that a program states itself, before it is partitioned, live in manual computations and
// run over their manual axes: elsewhere tensors are logical, and there is nothing to exchange.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Throws UserError that names op, place and axis where a collective stands outside of a manual
// computation, over an axis that is not manual there, or where it changes shapes without saying its
// local `shape`.
void check_collectives(const Graph& graph);

}  // namespace tessera
