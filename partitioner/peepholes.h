// Pass 7: small rewrites around communication, each a pure function of its own.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Equal reshards of one value become one. Never across recompute tags; and a reshard that enlarges
// the shard (a gather) is not kept from the forward to the backward pass, where it would occupy
// memory all the while: it is done again there.
Graph merge_reshards(const Graph& graph);

// all_reduce whose every user is the same all_slice over the same axes: reduce_scatter.
Graph make_reduce_scatters(const Graph& graph);

}  // namespace tessera
