// Merges instructions that compute the same: equal op, attributes, operands and lying.
//
// Never across recompute tags (a recomputed value is computed twice on purpose, to save memory), nor
// two gathers of one parameter in forward and backward, for the same reason: collectives merge only
// inside one scope (the block and the direction). State, barriers and different shardings never
// merge. Regions are treated each by itself.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph merge_common_subexpressions(const Graph& graph);

}  // namespace tessera
