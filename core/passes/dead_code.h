// Removes instructions that no output needs. Inputs stay, used or not: they are the graph's boundary.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph eliminate_dead_code(const Graph& graph);

}  // namespace tessera
