// Pass 9: small reductions travel together.
//
//     r1 = all_reduce{data}(g1)          flat = concatenate(reshape(g1), reshape(g2))
//     r2 = all_reduce{data}(g2)    ->    sum  = all_reduce{data}(flat)
//                                        r1   = reshape(slice(sum, 0, |g1|)) ...
//
// The reshapes and slices are views, and the memory plan lets the members be written where they
// will stand in the concatenation, so no bytes are copied.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// For local graphs. all_reduces of one combiner, dtype and axes are joined in the order in which
// they become ready, until `bucket_bytes` (or an eighth of all such bytes, so that the first ones
// run beside the backward pass) are full or a result is needed. 0 leaves the graph as it is.
Graph bucket_collectives(const Graph& graph, int64_t bucket_bytes);

}  // namespace tessera
