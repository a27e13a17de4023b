// The sharding type-checker: runs after every pass from insert_reshards on.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

// Throws InternalError, naming instruction and shardings, unless every op is free of communication
// under its rule (op_layout holds for its operands and results) or is a collective whose operand
// and result lie as its attributes say; outputs lie as demanded and no reshard of equal lyings is
// left. Regions are checked too. For global shapes; a localized graph is checked by verify().
void check_shardings(const Graph& graph);

}  // namespace tessera
