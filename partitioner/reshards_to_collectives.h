// Pass 6: every reshard becomes the cheapest sequence of collectives that the search finds.
#pragma once

#include "core/ir/graph.h"
#include "partitioner/reshard_search.h"

namespace tessera {

Graph reshards_to_collectives(const Graph& graph, ReshardPlanner& planner);

}  // namespace tessera
