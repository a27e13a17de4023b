// A case whose index is a constant, or that has one branch, becomes the branch that is taken.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph simplify_case(const Graph& graph);

}  // namespace tessera
