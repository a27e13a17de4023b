// Everything that is true of an op, in one table of plain functions.
//
// An op is a `const OpDef` in core/ops; an unset slot has the default that its comment states.
// How many places must be touched to add an op: its OpDef and one line in core/ops/op_list.cpp.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/attributes.h"
#include "core/ir/factors.h"
#include "core/ir/padding.h"
#include "core/types/host_tensor.h"

namespace tessera {

class Builder;
struct Value;
class GradContext;
class PartitionContext;

// An application of an op, as far as types go.
struct OpCall {
  std::span<const TensorType> operands;
  const Attributes& attributes;
};

// Operand positions in which an op is *jointly* linear (kind sum: op(x + y) = op(x) + op(y) with all
// these operands split the same way) or monotone (max, min: op distributes over the combiner).
// A partial value passes only through such a set. For add the set is {0, 1}: a partial and a
// replicated operand work together once the replicated one is kept on coordinate 0 alone.
struct LinearSet {
  std::vector<int> operands;
  ReduceKind kind = ReduceKind::sum;
  // Which results carry the partial; empty means all.
  std::vector<int> results = {};
};

// One test input of an op: what the op table's tests run with.
struct OpSample {
  std::vector<TensorType> operands;
  Attributes attributes;
  // Inclusive range of the random values per operand; missing entries mean [-1, 1] (integers too).
  std::vector<std::pair<double, double>> ranges = {};
  // False where finite differences make no sense (integer results, steps).
  bool differentiable = true;
};

struct OpDef {
  std::string_view name;  // StableHLO's where it has the op
  std::vector<Attr> attributes = {};           // required keys
  std::vector<Attr> optional_attributes = {};

  // Result types. Throws UserError that names the op and both shapes.
  std::vector<TensorType> (*infer)(const OpCall&) = nullptr;

  // The plain reference: computes all results (given zeroed, typed) from the operands. It is the
  // oracle and the last CPU candidate. Floats are computed in double and rounded once per op.
  void (*eval)(const OpCall&, std::span<const HostTensor* const> operands,
               std::span<HostTensor> results) = nullptr;

  // Cotangents of the operands (an invalid Value where there is none) from those of the results.
  // Unset: not differentiable; operands get no cotangent when the op's results are integers,
  // and it is an error that names the op otherwise.
  std::vector<Value> (*grad)(GradContext&) = nullptr;

  // Which dims belong together. Unset with `elementwise`: one pass-through factor per dim.
  // Otherwise unset: every dim needs replication.
  FactorRule (*factors)(const OpCall&, std::span<const TensorType> results) = nullptr;

  // Unset: linear in nothing.
  std::vector<LinearSet> (*linear)(const OpCall&) = nullptr;

  // Attributes for local shapes, where they hold global extents. Unset: unchanged.
  Attributes (*localize)(const OpCall& global, std::span<const TensorType> local_operands,
                         std::span<const TensorType> local_results) = nullptr;

  // Emits what one device does, where running the op on local shapes is not enough: see
  // core/ir/partition_context.h. Called by localize when a permutation factor is sharded, and always
  // when `partition_always`. Unset: permutation factors must not be sharded.
  std::vector<Value> (*partition)(PartitionContext&) = nullptr;
  // Bytes that `partition` sends per device when the factors are cut over `axes` (one list per
  // factor), for the choice of op shardings; negative: it cannot do this choice. Unset: 0.
  double (*exchange_bytes)(const OpCall&, std::span<const TensorType> results,
                           std::span<const AxisList> axes) = nullptr;
  // `partition` also does the cases without a sharded permutation factor (indices into a sharded
  // dim, which must be clamped on global extents).
  bool partition_always = false;

  // What the padding of the results holds, given that of the operands. Unset: elementwise ops are
  // evaluated on the contents; of others nothing is known. See core/ir/padding.h.
  std::vector<PadContents> (*pad_transfer)(const PadFacts&) = nullptr;
  // What the padding of operands must hold so that none of it reaches a valid element. Unset: the
  // identity of the combiner in every operand along every reduction factor.
  std::vector<PadNeed> (*pad_needs)(const PadFacts&) = nullptr;

  // Floating-point operations. Unset: one per result element.
  double (*flops)(const OpCall&, std::span<const TensorType> results) = nullptr;

  // Inputs for tests. Every op has some.
  std::vector<OpSample> (*samples)() = nullptr;

  bool elementwise = false;   // result element i depends on operand elements i alone; same shapes
  bool commutative = false;
  bool communicates = false;  // a collective: ranks must agree on its order
  bool device_dependent = false;  // the result depends on which device computes it (axis_index)
  bool has_state = false;     // parameter: never merged, folded or removed
  bool multiplies_matrices = false;  // costs a matrix product or more: kept by RematPolicy::dots

  // Operand whose buffer the result may overwrite, or -1 (default: any equal-sized operand of an
  // elementwise op). For updates in place: result i -> operand.
  int (*alias)(const OpCall&, int result) = nullptr;
};

// Convenience over the slots and their defaults.
std::vector<TensorType> infer_types(const OpDef& op, const OpCall& call);
FactorRule factor_rule(const OpDef& op, const OpCall& call, std::span<const TensorType> results);
std::vector<LinearSet> linear_sets(const OpDef& op, const OpCall& call);
double flop_count(const OpDef& op, const OpCall& call, std::span<const TensorType> results);

// Whether localize must ask the op's `partition` for these axes (one list per factor, or none).
bool needs_partition(const OpDef& op, const FactorRule& rule, std::span<const AxisList> axes);

}  // namespace tessera
