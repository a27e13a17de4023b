// Partial sums that a loop carries. Where a loop only adds to a carried value,
//
//     while (acc, ...) { acc = acc + partial }
//
// the value is carried partial: nothing is sent within the loop, and one reduction follows it.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Before op shardings are chosen: outputs of loop bodies that could stay partial are demanded so,
// over all axes that they do not use, which makes partial addends free in the body.
Graph offer_carried_partials(const Graph& graph);

// After they are chosen in the loops of `graph` (not in itself): demands of the offered outputs, and
// of the carried values at body and condition, become the axes over which the body really leaves
// them partial.
Graph settle_carried_partials(const Graph& graph);

}  // namespace tessera
