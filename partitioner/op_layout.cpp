#include "partitioner/op_layout.h"

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/ops/control.h"
#include "partitioner/regions.h"

namespace tessera {

namespace {

// Inputs of the regions are operands, outputs are results; those of a manual computation lie inside
// along the automatic axes only.
OpLayout boundary_of(const Graph& graph, const Instruction& instruction) {
  OpLayout layout;
  if (instruction.is(ops::kManualComputation)) {
    layout.operands = instruction.attributes.get<Shardings>(Attr::in_shardings);
    layout.results = instruction.attributes.get<Shardings>(Attr::out_shardings);
    return layout;
  }
  const Graph& region = *control_regions(instruction)[0].graph;
  if (instruction.is(ops::kWhile) || instruction.is(ops::kCall) || instruction.is(ops::kCase)) {
    for (int o = 0; o < first_region_operand(instruction); ++o)
      layout.operands.emplace_back(graph.mesh,
                                   graph.type(instruction.operands[static_cast<size_t>(o)]).rank());
    for (const GraphInput& input : region.inputs)
      layout.operands.push_back(region.sharding(input.value).closed());
  }
  const Region* giving = nullptr;
  const std::vector<Region> regions = control_regions(instruction);
  for (const Region& one : regions)
    if (gives_results(one)) giving = &one;
  TESSERA_CHECK(giving != nullptr, instruction.op->name, " has no region that gives its results");
  for (const GraphOutput& output : giving->graph->outputs) {
    TESSERA_CHECK(output.sharding.has_value(), "output \"", output.name, "\" of a region of ",
                  instruction.op->name, " has no sharding");
    layout.results.push_back(output.sharding->closed());
  }
  return layout;
}

}  // namespace

OpRules op_rules(const Graph& graph, const Instruction& instruction) {
  std::optional<OpLayout> boundary;
  if (has_control_flow(instruction)) boundary = boundary_of(graph, instruction);
  OpRules rules = with_call(graph, instruction, [&](const OpCall& call) {
    return OpRules{boundary, factor_rule(*instruction.op, call, Graph::result_types(instruction)),
                   linear_sets(*instruction.op, call), instruction.op->partition != nullptr};
  });
  if (instruction.op->exchange_bytes && rules.has_partition)
    rules.exchange_bytes = [op = instruction.op, operands = graph.operand_types(instruction),
                            attributes = instruction.attributes,
                            results = Graph::result_types(instruction)](const FactorAxes& axes) {
      return op->exchange_bytes({operands, attributes}, results, axes);
    };
  return rules;
}

AxisList all_axes(const FactorAxes& axes) {
  AxisList all;
  for (const AxisList& list : axes) all.insert(all.end(), list.begin(), list.end());
  return all;
}

Sharding constrained(const Sharding& produced, const Sharding& annotation) {
  Sharding result = produced.closed();
  AxisList demanded;
  for (const DimSharding& dim : annotation.dims)
    if (!dim.open) demanded.insert(demanded.end(), dim.axes.begin(), dim.axes.end());
  for (size_t d = 0; d < result.dims.size(); ++d)
    result.dims[d].axes = annotation.dims[d].open ? prefix_without(result.dims[d].axes, demanded)
                                                  : annotation.dims[d].axes;
  result.partial = without(result.partial, demanded);
  return result;
}

std::vector<std::vector<bool>> demanded_annotations(const Graph& graph) {
  const auto uses = graph.uses();
  auto is_sum = [&](const Instruction& instruction) {
    return with_call(graph, instruction, [&](const OpCall& call) {
      const std::vector<LinearSet> sets = linear_sets(*instruction.op, call);
      return instruction.op->elementwise && !sets.empty() && sets[0].kind == ReduceKind::sum &&
             sets[0].operands.size() > 1;
    });
  };
  std::vector<std::vector<bool>> demanded;
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    demanded.emplace_back();
    for (size_t r = 0; r < graph.instructions[i].results.size(); ++r) {
      const ResultInfo& info = graph.instructions[i].results[r];
      bool is_demanded = !info.name.empty() || !info.logical_axes.empty();
      if (is_demanded && info.name.empty() && uses[i].size() == 1) {
        const Instruction& user = graph.instructions[static_cast<size_t>(uses[i][0].user)];
        if (user.results[0].logical_axes == info.logical_axes && is_sum(user)) is_demanded = false;
      }
      demanded.back().push_back(is_demanded);
    }
  }
  return demanded;
}

namespace {

AxisList as_set(AxisList axes) {
  std::sort(axes.begin(), axes.end());
  return canonical(axes);
}

AxisList union_of(const AxisList& a, const AxisList& b) { return as_set(concat(a, without(b, a))); }

// The partial axes that travel through the op, and the set they travel in.
struct Carried {
  const LinearSet* set = nullptr;
  AxisList axes;
};

Carried carried_partials(const OpRules& rules, const FactorAxes& axes,
                         std::optional<ReduceKind> own_kind, std::span<const Sharding> current,
                         std::span<const int64_t> bytes) {
  const AxisList used = all_axes(axes);
  Carried best;
  int64_t best_bytes = 0;
  for (const LinearSet& set : rules.linear) {
    if (own_kind && *own_kind != set.kind) continue;  // combiners do not nest
    AxisList together;
    int64_t moved = 0;
    for (int operand : set.operands) {
      const Sharding& sharding = current[static_cast<size_t>(operand)];
      if (!sharding.is_partial() || sharding.partial_kind != set.kind) continue;
      if (overlaps(used, sharding.partial)) continue;
      together = union_of(together, sharding.partial);
      moved += bytes[static_cast<size_t>(operand)];
    }
    if (moved > best_bytes) best = {&set, together}, best_bytes = moved;
  }
  return best;
}

}  // namespace

OpLayout op_layout(const MeshPtr& mesh, const OpRules& rules, const FactorAxes& axes,
                   std::span<const Sharding> current, std::span<const int64_t> bytes) {
  if (rules.boundary) return *rules.boundary;
  OpLayout layout;
  for (const TensorFactors& operand : rules.factors.operands)
    layout.operands.push_back(unproject(mesh, operand, axes));
  for (const TensorFactors& result : rules.factors.results)
    layout.results.push_back(unproject(mesh, result, axes));

  std::optional<ReduceKind> own_kind;
  for (size_t f = 0; f < axes.size(); ++f) {
    const Factor& factor = rules.factors.factors[f];
    if (factor.kind != FactorKind::reduction || axes[f].empty()) continue;
    own_kind = factor.reduce;
    for (size_t r = 0; r < layout.results.size(); ++r) {
      if (dim_of_factor(rules.factors.results[r], static_cast<int>(f)) >= 0) continue;
      layout.results[r].partial = union_of(layout.results[r].partial, axes[f]);
      layout.results[r].partial_kind = factor.reduce;
    }
  }

  const Carried carried = carried_partials(rules, axes, own_kind, current, bytes);
  if (!carried.set) return layout;
  for (int operand : carried.set->operands) {
    layout.operands[static_cast<size_t>(operand)].partial = carried.axes;
    layout.operands[static_cast<size_t>(operand)].partial_kind = carried.set->kind;
  }
  for (size_t r = 0; r < layout.results.size(); ++r) {
    const auto& only = carried.set->results;
    if (!only.empty() && !std::count(only.begin(), only.end(), static_cast<int>(r))) continue;
    layout.results[r].partial = union_of(layout.results[r].partial, carried.axes);
    layout.results[r].partial_kind = carried.set->kind;
  }
  return layout;
}

OpLayout op_layout(const Graph& graph, const Instruction& instruction, const OpRules& rules) {
  std::vector<Sharding> current;
  std::vector<int64_t> bytes;
  for (Value operand : instruction.operands) {
    current.push_back(graph.sharding(operand));
    bytes.push_back(graph.type(operand).bytes());
  }
  const FactorAxes none(rules.factors.factors.size());
  return op_layout(graph.mesh, rules,
                   instruction.factor_axes.empty() ? none : instruction.factor_axes, current,
                   bytes);
}

bool is_legal(const OpRules& rules, const FactorAxes& axes) {
  AxisList seen;
  std::optional<ReduceKind> kind;
  for (size_t f = 0; f < axes.size(); ++f) {
    if (axes[f].empty()) continue;
    if (rules.boundary) return false;
    const Factor& factor = rules.factors.factors[f];
    if (factor.kind == FactorKind::need_replication || overlaps(seen, axes[f])) return false;
    if (factor.kind == FactorKind::permutation && !rules.has_partition) return false;
    seen.insert(seen.end(), axes[f].begin(), axes[f].end());
    if (factor.kind != FactorKind::reduction) continue;
    if (factor.reduce != ReduceKind::sum && factor.reduce != ReduceKind::max &&
        factor.reduce != ReduceKind::min)
      return false;
    if (kind && *kind != factor.reduce) return false;
    kind = factor.reduce;
  }
  if (rules.exchange_bytes && !seen.empty() && rules.exchange_bytes(axes) < 0) return false;
  auto expressible = [&](const TensorFactors& tensor) {
    return is_expressible(rules.factors, tensor, axes);
  };
  return std::all_of(rules.factors.operands.begin(), rules.factors.operands.end(), expressible) &&
         std::all_of(rules.factors.results.begin(), rules.factors.results.end(), expressible);
}

}  // namespace tessera
