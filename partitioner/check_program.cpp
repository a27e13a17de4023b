#include "partitioner/check_program.h"

#include "core/base/error.h"
#include "core/ir/verifier.h"
#include "core/passes/check_collectives.h"

namespace tessera {

void check_program(const Graph& graph) {
  try {
    verify(graph, GraphStage::built);
  } catch (const InternalError& error) {
    throw_user_error("graph \"", graph.name, "\" cannot be partitioned, as it does not verify: ",
                     error.what());
  }
  check_collectives(graph);
}

}  // namespace tessera
