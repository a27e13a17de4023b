// Puts the instructions of a callee in the place of its call, from the inside out. A call is a way
// to share text, not a boundary: no pass after this one sees any.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph inline_calls(const Graph& graph);

}  // namespace tessera
