// Evaluates instructions whose operands are all constants, where the result is small; in regions too.
// Control flow itself stays (see simplify_case, inline_calls), and so does what a barrier holds.
#pragma once

#include <cstdint>

#include "core/ir/graph.h"

namespace tessera {

struct FoldingOptions {
  int64_t most_elements = 1024;  // larger results stay instructions: a broadcast is cheaper than its bytes
};

Graph fold_constants(const Graph& graph, const FoldingOptions& options = {});

}  // namespace tessera
