// Gathers of one weight in forward and backward become one, whose result is kept in between.
//
// The partitioner gathers a sharded weight anew for every use, so that fully sharded training holds
// no whole weights but those of the blocks at work. Where memory is left, keeping some saves their
// second gather. The last blocks come first: between their forward and backward pass lies least.
#pragma once

#include <cstdint>

#include "core/ir/graph.h"

namespace tessera {

// Keeps gathered weights of at most `bytes` altogether. `graph` is local.
Graph keep_weights(const Graph& graph, int64_t bytes);

// Of all weights that are gathered more than once.
int64_t bytes_of_regathered_weights(const Graph& graph);

}  // namespace tessera
