#include "partitioner/implicit_reshards.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ops/sharding.h"
#include "partitioner/regions.h"
#include "partitioner/uses.h"

namespace tessera {
namespace {

// Whether the value is a parameter, or made of one alone (converted, transposed, moved).
bool is_of_parameter(const Graph& graph, Value value) {
  for (;;) {
    const Instruction& instruction = graph.at(value);
    if (instruction.is(ops::kParameter)) {
      const auto input = std::find_if(graph.inputs.begin(), graph.inputs.end(),
                                      [&](const GraphInput& one) { return one.value == value; });
      return input != graph.inputs.end() && input->kind == InputKind::parameter;
    }
    if (instruction.operands.size() != 1) return false;
    value = instruction.operands[0];
  }
}

// The value itself, or the nearest one before it that has a name or named dims.
Value nearest_named(const Graph& graph, Value value) {
  for (Value at = value;;) {
    const ResultInfo& info = graph.info(at);
    if (!info.name.empty() || !info.logical_axes.empty()) return at;
    if (graph.at(at).operands.size() != 1) return value;
    at = graph.at(at).operands[0];
  }
}

std::string axes_or_none(const Sharding& sharding, size_t dim) {
  const AxisList& axes = sharding.dims[dim].axes;
  return axes.empty() ? "nothing" : print_axes(*sharding.mesh, axes);
}

// "activation rule embed -> nothing (it is embed -> model)", or an override where dims have no
// names.
std::string advice(const Graph& graph, Value named, const Sharding& from, const Sharding& to) {
  const ResultInfo& info = graph.info(named);
  std::vector<std::string> rules;
  if (info.logical_axes.size() == from.dims.size())
    for (size_t d = 0; d < from.dims.size(); ++d)
      if (from.dims[d].axes != to.dims[d].axes && !info.logical_axes[d].empty())
        rules.push_back(cat(info.logical_axes[d], " -> ", axes_or_none(to, d), " instead of ",
                            axes_or_none(from, d)));
  if (!rules.empty()) return cat("an activation rule would avoid it: ", join(rules, ", "));
  if (!info.name.empty())
    return cat("an override of tensor \"", info.name, "\" with ", to, " would avoid it");
  return cat("an annotation of the tensor with ", to, " where it is made would avoid it");
}

std::string describe_moves(const ReshardPlan& plan) {
  std::vector<std::string> moves;
  for (const ReshardMove& move : plan.moves) moves.push_back(print_move(move));
  return join(moves, ", ");
}

}  // namespace

std::vector<ImplicitReshard> find_implicit_reshards(const Graph& graph, ReshardPlanner& planner,
                                                    int64_t limit) {
  const Uses readers(graph);
  std::vector<ImplicitReshard> found;
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& reshard = graph.instructions[i];
    if (!reshard.is(ops::kReshard)) continue;
    const ResultInfo& result = reshard.results[0];
    const Value source = reshard.operands[0], made{static_cast<int>(i), 0};
    const std::vector<Graph::Use>& uses = readers.of(made.instruction);
    const bool is_asked_for = !result.name.empty() || !result.logical_axes.empty() ||
                              readers.is_output(made) || is_of_parameter(graph, source);
    const Sharding& from = graph.sharding(source);
    if (is_asked_for || from.is_partial() || uses.empty()) continue;
    const ReshardPlan& plan = planner.plan(from, *result.sharding, result.type);
    if (plan.wire_bytes <= static_cast<double>(limit)) continue;
    const Graph::Use& use = uses[0];
    const Instruction& user = graph.instructions[static_cast<size_t>(use.user)];
    const Value named = nearest_named(graph, source);
    const ResultInfo& info = graph.info(named);
    found.push_back(
        {static_cast<int>(i), plan.wire_bytes,
         cat("implicit reshard: each device sends ", static_cast<int64_t>(plan.wire_bytes),
             " B (", describe_moves(plan), ") for operand ", use.operand, " of ", user.op->name,
             " (%", use.user, user.scope.empty() ? "" : ", ", user.scope, "): ",
             info.name.empty() ? "a tensor" : cat("tensor \"", info.name, "\""), " ", result.type,
             info.logical_axes.empty() ? "" : cat(" (", join(info.logical_axes), ")"), " lies ",
             from, " and is needed ", *result.sharding, "; ",
             advice(graph, named, from, *result.sharding))});
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.bytes > b.bytes;
  });
  return found;
}

void check_implicit_reshards(const Graph& graph, ReshardPlanner& planner, int64_t limit,
                             bool strict, std::vector<std::string>& warnings) {
  if (limit <= 0) return;
  constexpr size_t kMostWarnings = 8;
  std::vector<ImplicitReshard> found;
  with_regions(graph, {}, [&](const Graph& each, const AxisList& manual) {
    planner.set_manual(manual);
    const std::vector<ImplicitReshard> here = find_implicit_reshards(each, planner, limit);
    found.insert(found.end(), here.begin(), here.end());
    return each;
  });
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  if (found.empty()) return;
  if (strict)
    throw_config_error("--strict: ", found.size(),
                       found.size() == 1 ? " reshard is" : " reshards are",
                       " above sharding.max_implicit_reshard_bytes (", limit, "). The largest: ",
                       found[0].message);
  for (size_t i = 0; i < std::min(found.size(), kMostWarnings); ++i)
    warnings.push_back(found[i].message);
  if (found.size() > kMostWarnings)
    warnings.push_back(cat(found.size() - kMostWarnings, " more implicit reshards above ", limit,
                           " B"));
}

}  // namespace tessera
