// Small gathers and scatters that are ready together travel together.
//
//     r1 = reduce_scatter{0}(g1)         flat = concatenate{1}(reshape [n, |g1|/n], ...)
//     r2 = reduce_scatter{1}(g2)   ->    sum  = reduce_scatter{0}(flat)              [1, K]
//                                        r1   = reshape(slice(sum)) ...
//
// and all_gathers the other way round. Unlike the members of an all_reduce's bucket
// (bucket_collectives.h), blocks of the members alternate in the flat buffer, so the large side is
// copied; the small side is views. Joined are only tensors whose copy takes less time than the
// latency that they save: biases and gains, not weights.
#pragma once

#include "core/ir/graph.h"
#include "partitioner/machine_model.h"

namespace tessera {

// For local graphs. Scatters, and gathers of computed values, are joined as they become ready, until
// a result is needed; gathers of parameters where the block (first part of the scope) first needs
// one of them. Never across blocks or passes, so that what is gathered is no longer held. At most
// `bucket_bytes` of the large side; 0 leaves the graph as it is.
Graph bucket_shards(const Graph& graph, int64_t bucket_bytes, const MachineModel& machine);

}  // namespace tessera
