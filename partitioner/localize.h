// Pass 8: global shapes become the shapes of one device's shards.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Every instruction is replaced by its local call (core/ir/local_call.h). Positional ops whose
// positional factors are sharded get start operands: axis_index(axes) times the local size. Types
// are inferred anew from the local operands and must agree. Sets is_local; shardings stay, as the
// record of what each shard is a shard of. Throws ConfigError where a dim does not divide, naming
// op, tensor, dim and axis. No reshard may be left.
Graph localize(const Graph& graph);

}  // namespace tessera
