// Which collectives bring weights together: all that they depend on is inputs and a few cheap local
// steps (a convert of the shard to compute precision), so they could start before anything else.
#pragma once

#include <vector>

#include "core/compile/step_graph.h"

namespace tessera {

struct WeightGather {
  int node = -1;
  std::vector<int> prepare;  // the local steps it needs, in program order; the gather not included
  int64_t bytes = 0;         // of the gathered result
  int input = -1;            // number of the parameter
};

// In program order.
std::vector<WeightGather> find_weight_gathers(const StepGraph& steps, const Graph& graph);

// The most that the gathers of one block bring; blocks are told by the first part of the scope.
int64_t largest_block_bytes(const std::vector<WeightGather>& gathers, const StepGraph& steps,
                            const Graph& graph);

}  // namespace tessera
