// Pass 5: where partial values are made whole.
//
// A partial value may be reduced where it is made, where it is used, or anywhere between as long as
// the ops on the way are linear in it. Each connected region of partial values is a flow problem:
// the sources are the ops that make partial values, the sinks the uses that need them whole, a
// value's capacity the seconds of reducing it there (a reduce_scatter's where all its direct users
// want the same shard). The minimum cut nearest to the sources is where the reductions go:
//
//     grad1 -+
//     grad2 -+- add - adamw        one reduction after the add rather than two before it
#pragma once

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

// `graph` comes from insert_reshards. Values demanded partial by an output stay so.
Graph place_reductions(const Graph& graph, ReshardPlanner& planner);

}  // namespace tessera
