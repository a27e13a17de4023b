// Collectives that a program states itself, before it is partitioned, live in manual computations and
// run over their manual axes: elsewhere a program is as if for one device, tensors are logical, and
// there is nothing to exchange and no device to tell from the others.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Throws UserError that names op, place and axis where a collective, or anything else that tells
// devices apart, stands outside a manual computation; where a collective is over an axis that is not
// manual there, or changes shapes without saying its local `shape`.
void check_collectives(const Graph& graph);

}  // namespace tessera
