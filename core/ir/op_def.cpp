#include "core/ir/op_def.h"

#include "core/base/error.h"

namespace tessera {

std::vector<TensorType> infer_types(const OpDef& op, const OpCall& call) {
  TESSERA_CHECK(op.infer != nullptr, "op ", op.name, " has no infer");
  return op.infer(call);
}

namespace {

// One factor per dim, through all operands and results of the same rank.
FactorRule elementwise_rule(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  TensorFactors dims;
  for (int64_t size : results[0].shape) {
    dims.emplace_back();
    if (size > 1) dims.back().push_back(rule.add(size));
  }
  for (const TensorType& operand : call.operands)
    rule.operands.push_back(operand.rank() == results[0].rank() ? dims : TensorFactors(operand.rank()));
  rule.results.assign(results.size(), dims);
  return rule;
}

// No dim may be sharded.
FactorRule replicated_rule(const OpCall& call, std::span<const TensorType> results) {
  FactorRule rule;
  auto own_factors = [&](const TensorType& type) {
    TensorFactors dims;
    for (int64_t size : type.shape) {
      dims.emplace_back();
      if (size > 1) dims.back().push_back(rule.add(size, FactorKind::need_replication));
    }
    return dims;
  };
  for (const TensorType& operand : call.operands) rule.operands.push_back(own_factors(operand));
  for (const TensorType& result : results) rule.results.push_back(own_factors(result));
  return rule;
}

}  // namespace

FactorRule factor_rule(const OpDef& op, const OpCall& call, std::span<const TensorType> results) {
  if (op.factors) return op.factors(call, results);
  return op.elementwise ? elementwise_rule(call, results) : replicated_rule(call, results);
}

std::vector<LinearSet> linear_sets(const OpDef& op, const OpCall& call) {
  return op.linear ? op.linear(call) : std::vector<LinearSet>{};
}

bool needs_partition(const OpDef& op, const FactorRule& rule, std::span<const AxisList> axes) {
  if (op.partition == nullptr) return false;
  for (size_t f = 0; f < axes.size(); ++f)
    if (!axes[f].empty() &&
        (op.partition_always || rule.factors[f].kind == FactorKind::permutation))
      return true;
  return false;
}

double flop_count(const OpDef& op, const OpCall& call, std::span<const TensorType> results) {
  if (op.flops) return op.flops(call, results);
  double elements = 0;
  for (const TensorType& result : results) elements += static_cast<double>(result.elements());
  return elements;
}

}  // namespace tessera
