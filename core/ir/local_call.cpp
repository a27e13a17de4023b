#include "core/ir/local_call.h"

namespace tessera {
namespace {

TensorType local_type(const Instruction& instruction, const ResultInfo& info,
                      const std::string& what) {
  TESSERA_CHECK(info.sharding.has_value(), what, " of ", instruction.op->name, " has no sharding");
  return {info.type.dtype, info.sharding->local_shape(info.stored_shape())};
}

// Of a factor on one device. One that stands alone in a dim may be padded; one beside others divides.
int64_t local_size(const FactorRule& rule, int factor, const AxisList& axes,
                   const LocalCall& local) {
  for (const bool of_results : {false, true}) {
    const std::vector<TensorFactors>& tensors = of_results ? rule.results : rule.operands;
    const std::vector<TensorType>& types = of_results ? local.results : local.operands;
    for (size_t t = 0; t < tensors.size() && t < types.size(); ++t)
      for (size_t d = 0; d < tensors[t].size(); ++d)
        if (tensors[t][d] == std::vector<int>{factor}) return types[t].shape[static_cast<int>(d)];
  }
  return rule.factors[static_cast<size_t>(factor)].size / size_of(axes);
}

}  // namespace

LocalCall local_call(const Graph& graph, const Instruction& instruction) {
  LocalCall local;
  for (size_t o = 0; o < instruction.operands.size(); ++o)
    local.operands.push_back(
        local_type(instruction, graph.info(instruction.operands[o]), cat("operand ", o)));
  for (size_t r = 0; r < instruction.results.size(); ++r)
    local.results.push_back(
        local_type(instruction, instruction.results[r], cat("result ", r)));
  with_call(graph, instruction, [&](const OpCall& call) {
    local.attributes = instruction.op->localize
                           ? instruction.op->localize(call, local.operands, local.results)
                           : instruction.attributes;
  });
  if (instruction.factor_axes.empty()) return local;
  const FactorRule rule = factor_rule(graph, instruction);
  TESSERA_CHECK(rule.factors.size() == instruction.factor_axes.size(), instruction.op->name,
                " has ", rule.factors.size(), " factors but axes for ",
                instruction.factor_axes.size());
  bool any_sharded = false;
  for (size_t f = 0; f < rule.factors.size(); ++f) {
    if (!rule.factors[f].positional) continue;
    const AxisList& axes = instruction.factor_axes[f];
    local.starts.push_back({axes, local_size(rule, static_cast<int>(f), axes, local)});
    any_sharded = any_sharded || !axes.empty();
  }
  if (!any_sharded) local.starts.clear();
  return local;
}

}  // namespace tessera
