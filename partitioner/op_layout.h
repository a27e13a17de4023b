// Which lyings of operands and results let an op run on shards without communication.
//
// Given the axes chosen per factor, operands and results lie as their factors; a result that lacks
// a sharded reduction factor is partial over its axes. A partial operand may stay partial where the
// op is linear in it and its axes are not used by the op itself; then all operands of the linear
// set are partial together and so are the results. This one function is the definition: reshards
// are inserted until it holds, and the sharding checker asks it after every later pass.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/ir/graph.h"
#include "partitioner/projection.h"

namespace tessera {

struct OpLayout {
  std::vector<Sharding> operands;
  std::vector<Sharding> results;
};

// The rule and linear sets of an instruction, computed once.
struct OpRules {
  // Of control flow: fixed by the boundary of its regions, whatever the factors.
  std::optional<OpLayout> boundary = {};
  FactorRule factors;
  std::vector<LinearSet> linear;
  bool has_partition = false;  // permutation factors may be sharded
  // Bytes that a device exchanges within the op when the factors are cut so; negative: it cannot be
  // cut so. Unset: 0.
  std::function<double(const FactorAxes& axes)> exchange_bytes = nullptr;
};
OpRules op_rules(const Graph& graph, const Instruction& instruction);

// `current`: how the operands lie now; only their partial parts matter. Operands that cannot stay
// partial are demanded whole. `bytes[i]`: of operand i, to choose among linear sets.
OpLayout op_layout(const MeshPtr& mesh, const OpRules& rules, const FactorAxes& axes,
                   std::span<const Sharding> current, std::span<const int64_t> bytes);

// Convenience: with the operands as they lie in `graph`.
OpLayout op_layout(const Graph& graph, const Instruction& instruction, const OpRules& rules);

// Whether the axes are a legal choice: need-replication factors free, no axis twice, every tensor
// expressible, reductions of one kind (sum, max or min).
bool is_legal(const OpRules& rules, const FactorAxes& axes);

// How a named activation goes on after its op left it as `produced`: closed dims as annotated, open
// dims as they are unless the annotation needs their axes; partial over what is left.
Sharding constrained(const Sharding& produced, const Sharding& annotation);

// By instruction and result, whether the annotation is demanded: the value has a name or logical
// axes, and is not merely one addend of a sum that is annotated in the same way (the cotangents of
// one activation, which are better reduced together).
std::vector<std::vector<bool>> demanded_annotations(const Graph& graph);

// All axes in use, and their number of shards.
AxisList all_axes(const FactorAxes& axes);

}  // namespace tessera
