#include "core/ir/local_call.h"

namespace tessera {
namespace {

TensorType local_type(const Graph& graph, const Instruction& instruction, const ResultInfo& info,
                      const std::string& what) {
  TESSERA_CHECK(info.sharding.has_value(), what, " of ", instruction.op->name, " has no sharding");
  const int dim = info.sharding->indivisible_dim(info.type.shape);
  if (dim >= 0) {
    const AxisList& axes = info.sharding->dims[static_cast<size_t>(dim)].axes;
    throw_config_error(instruction.op->name,
                       instruction.scope.empty() ? "" : cat(" in ", instruction.scope), ": ", what,
                       " ", info.name.empty() ? "" : cat("\"", info.name, "\" "), info.type,
                       ": dim ", dim, " of size ", info.type.shape[dim], " is not divisible by ",
                       size_of(axes), ", the size of mesh axis \"", print_axes(*graph.mesh, axes),
                       "\"; change the size or the mesh");
  }
  return {info.type.dtype, info.sharding->local_shape(info.type.shape)};
}

}  // namespace

LocalCall local_call(const Graph& graph, const Instruction& instruction) {
  LocalCall local;
  for (size_t o = 0; o < instruction.operands.size(); ++o)
    local.operands.push_back(
        local_type(graph, instruction, graph.info(instruction.operands[o]), cat("operand ", o)));
  for (size_t r = 0; r < instruction.results.size(); ++r)
    local.results.push_back(
        local_type(graph, instruction, instruction.results[r], cat("result ", r)));
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
    local.starts.push_back({axes, rule.factors[f].size / size_of(axes)});
    any_sharded = any_sharded || !axes.empty();
  }
  if (!any_sharded) local.starts.clear();
  return local;
}

}  // namespace tessera
