#include "partitioner/check_program.h"

#include "core/base/error.h"
#include "core/ir/verifier.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/passes/check_collectives.h"
#include "partitioner/regions.h"

namespace tessera {
namespace {

bool tells_devices_apart(const OpDef& op) {
  return op.communicates || op.device_dependent || &op == &ops::kReshard ||
         &op == &ops::kAllSlice || &op == &ops::kReplicatedToPartial;
}

void refuse_collectives(const Graph& graph, const std::string& path) {
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& instruction = graph.instructions[i];
    if (tells_devices_apart(*instruction.op))
      throw_user_error(instruction.op->name, " %", i,
                       path.empty() ? "" : cat(" of ", path.substr(0, path.size() - 1)),
                       instruction.scope.empty() ? "" : cat(" in ", instruction.scope),
                       " stands outside a manual_computation; before partitioning a program is as "
                       "if for one device: leave the collective out (the partitioner puts it in), "
                       "or put it into a manual_computation over its axes");
    if (instruction.is(ops::kManualComputation)) continue;
    for (const Region& region : control_regions(instruction))
      refuse_collectives(*region.graph, region_path(path, static_cast<int>(i), region));
  }
}

}  // namespace

void check_program(const Graph& graph) {
  try {
    verify(graph, GraphStage::built);
  } catch (const InternalError& error) {
    throw_user_error("graph \"", graph.name, "\" cannot be partitioned, as it does not verify: ",
                     error.what());
  }
  refuse_collectives(graph, "");
  check_collectives(graph);  // those of manual computations: axes and shapes
}

}  // namespace tessera
