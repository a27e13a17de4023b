// A graph and all its regions as propagation sees them: tensors, and ops that tie tensors together by
// factors. Private to propagate.
//
// Data flow into and out of regions and sharding groups are ops too: their rule has one pass-through
// factor per dim. Values that must lie alike (a carried value of a loop, its parameter in body and
// condition; the members of a shard_as group) are one tensor.
#pragma once

#include <string>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/origins.h"

namespace tessera {

struct PropagationTensor {
  std::vector<Place> places;  // the first stands for all
  Sharding sharding;
  TensorType type;
  bool from_activation = true;  // its axes come from an activation, not from a stored tensor
  int users = 0;                // ops that read it
};

struct PropagationOp {
  FactorRule rule;
  std::vector<int> tensors;  // operands, then results
  size_t operands = 0;
  Place at;          // its instruction
  std::string edge;  // not an instruction but a tie: what Origin::edge says of it
  bool is_pass_through = true;  // every factor is in every tensor that has dims
  bool is_broadcast = false;    // a result has a factor that no operand has
  bool is_single_use = true;    // no operand has a second user
};

struct PropagationProblem {
  std::vector<PropagationTensor> tensors;
  std::vector<PropagationOp> ops;           // in program order, regions where their op stands
  std::vector<std::vector<int>> ops_of;     // by tensor, ascending
};

// Every value must have a sharding. Throws ConfigError where groups contradict: members of other
// shapes, one value demanded in two ways, an id both `as` and `like`.
PropagationProblem propagation_problem(const Graph& graph, Origins& origins);

// The part of a dim's axes that a manual computation has taken over; they stand major.
inline AxisList manual_part(const AxisList& axes, const AxisList& manual) {
  return without(axes, without(axes, manual));
}

// The shardings of the tensors on their values; boundaries of regions closed; `in_shardings` and
// `out_shardings` of manual computations complete.
void write_back(const PropagationProblem& problem, Graph& graph);

}  // namespace tessera
