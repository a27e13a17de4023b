// Pass 2a: constants, iotas, broadcasts of scalars and small elementwise expressions of them get one
// copy per use, so that two users that
// want them sharded differently do not disagree through them (a false dependency). Copies that end
// up equal are merged by common-subexpression elimination after partitioning.
#pragma once

#include "core/ir/graph.h"

namespace tessera {

Graph split_constants(const Graph& graph);

}  // namespace tessera
