// Pass 2: shardings flow from annotated tensors to all others, through the ops' factor rules.
//
// Invariants: axes are only ever appended to the minor end of an open dim, never changed; work is
// done in a fixed order, so the result is a function of the graph alone. Levels, each run to its
// fixed point before the next (the order is Shardy's):
//
//   0  pass-through ops (elementwise, transpose, reshape) whose operands have one user
//   1  pass-through ops
//   2  pass-through factors of all ops; broadcasts only from result to operand
//   3  all factors; broadcasts only from result to operand
//   4  everything
//
// Within a level first only what no tensor of the op contradicts ("basic"), then each tensor takes
// what it can ("aggressive"): activations before stored tensors, larger before smaller, then what
// would be slowest to move (by the bandwidth of its axes). Dims with user priority p take part from
// round p on: user priority goes over levels, levels over steps.
//
// Shardings also flow into regions and out of them, along the carried values of loops, and between
// the members of sharding groups (propagation_problem.h).
#pragma once

#include <vector>

#include "core/ir/graph.h"
#include "partitioner/machine_model.h"
#include "partitioner/origins.h"

namespace tessera {

struct PropagateResult {
  Graph graph;
  std::vector<Conflict> conflicts;  // by bytes, largest first
  int64_t steps = 0;                // op visits, for tests of near-linearity
};

// Every value must have a sharding (annotate). Adds to `origins`. Throws ConfigError where sharding
// groups contradict.
PropagateResult propagate(const Graph& graph, Origins& origins,
                          const MachineModel& machine = machine_model("cpu-shm"));

}  // namespace tessera
