// What one device computes of an instruction: the same op on local shapes.
//
//     dot_general f32[8,16], f32[16,32] with factor axes i {data}, j {}, k {model} on <data=2,
//     model=2> is locally dot_general f32[4,8], f32[8,32] -> f32[4,32], partial over model.
#pragma once

#include <vector>

#include "core/ir/graph.h"

namespace tessera {

// One extra s64[] operand of a positional op: coordinate along `axes` times `local_size`.
struct StartOperand {
  AxisList axes;           // empty: the start is 0
  int64_t local_size = 0;  // of the factor on one device
};

struct LocalCall {
  std::vector<TensorType> operands;  // starts excluded
  std::vector<TensorType> results;
  Attributes attributes;
  std::vector<StartOperand> starts;  // empty unless a positional factor is sharded
};

// `instruction` has global types, complete shardings and, unless it communicates, factor axes (none
// at all means that no factor is sharded). Extents that do not divide are those of padded shards.
LocalCall local_call(const Graph& graph, const Instruction& instruction);

}  // namespace tessera
