// Pass 6: reshards move to where fewer bytes travel.
//
//     convert_bf16(reshard(w))    ->  reshard(convert_bf16(w))      below what makes values smaller:
//     slice(reshard(x))           ->  reshard(slice(x))             narrowing converts, slices,
//     reduce(reshard(x))          ->  reshard(reduce(x))            reductions
//     reshard(convert_f32(x))     ->  convert_f32(reshard(x))       above what makes them larger:
//     reshard(broadcast(x))       ->  broadcast(reshard(x))         widening converts, broadcasts
//
// Any op of one operand and one result may be passed over, if its rule lets it run without
// communication on the other side, and if fewer bytes travel there in no more time.
#pragma once

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

// `graph` comes from place_reductions. Only whole values are moved past, and only where nothing else
// uses what stands between.
Graph move_reshards(const Graph& graph, ReshardPlanner& planner);

}  // namespace tessera
