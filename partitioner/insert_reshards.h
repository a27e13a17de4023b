// Pass 4: makes every change of lying an instruction. Afterwards each op runs on its shards without
// communication; all that moves data is an explicit `reshard`.
#pragma once

#include <map>

#include "core/ir/graph.h"

namespace tessera {

// Needs factor_axes and the wished shardings of propagation. Recomputes every sharding from the
// factors: operands are resharded to what the op demands, named activations and outputs to what was
// annotated. Partial values are carried as far as ops are linear in them; place_reductions improves
// on that. Sets the sharding of every output.
Graph insert_reshards(const Graph& graph);

// The common routine of this pass and place_reductions: `graph` holds only the reshards that
// annotations demand. A value in `resolve` is resharded right after it is made, for all its users.
Graph lay_out(const Graph& graph, const std::map<Value, Sharding>& resolve);

// `graph` without the reshards that lay_out would insert anew; those of named activations stay.
// `map_back[i]` is the instruction of `graph` that instruction i of the result was.
Graph strip_reshards(const Graph& graph, std::vector<int>* map_back = nullptr);

}  // namespace tessera
