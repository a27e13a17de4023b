// What may exist in a graph at which stage, checked after every pass.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

enum class GraphStage : uint8_t {
  built,        // global shapes, types agree with infer
  sharded,      // every value has a sharding
  local,        // after localize: local shapes, no reshard left
};

// Throws InternalError that names the instruction and the broken rule: operands defined before use,
// types equal to what infer says, required attributes present and no unknown ones, shardings of the
// right rank, alias pairs of equal type, input order.
void verify(const Graph& graph, GraphStage stage);

}  // namespace tessera
