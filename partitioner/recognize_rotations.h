// Pass 1: concatenate(slice(x, k, n), slice(x, 0, k)) is rotate(x, k), how models and importers
// write a roll. As two slices and a concatenation it would be three exchanges on a cut dim; as one op
// it is one shift of k rows (core/ops/structure.h).
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph recognize_rotations(const Graph& graph);

}  // namespace tessera
