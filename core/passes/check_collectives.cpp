#include "core/passes/check_collectives.h"

#include "core/base/error.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/runtime/device_exchange.h"

namespace tessera {
namespace {

bool changes_shape(const Instruction& it) {
  return it.is(ops::kAllGather) || it.is(ops::kAllSlice) || it.is(ops::kReduceScatter) ||
         it.is(ops::kAllToAll);
}

void check(const Graph& graph, const AxisList& manual) {
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    const Instruction& it = graph.instructions[i];
    const std::string place = cat(it.op->name, " (%", i, " of \"", graph.name, "\"",
                                  it.scope.empty() ? "" : cat(", in ", it.scope), ")");
    AxisList inside = manual;
    if (it.is(ops::kManualComputation)) {
      const auto& axes = it.attributes.get<AxisList>(Attr::axes);
      for (AxisRef ref : axes)
        if (overlaps(manual, ref))
          throw_user_error(place, ": axis \"", print_axis(*graph.mesh, ref),
                           "\" is manual already in the computation around it");
      inside.insert(inside.end(), axes.begin(), axes.end());
    }
    for (const Region& region : control_regions(it)) check(*region.graph, inside);
    if (!is_exchange(*it.op)) continue;
    AxisList axes = it.attributes.get<AxisList>(Attr::axes);
    if (it.attributes.has(Attr::target_axes))
      for (AxisRef ref : it.attributes.get<AxisList>(Attr::target_axes)) axes.push_back(ref);
    if (axes.empty()) continue;
    if (manual.empty())
      throw_user_error(place, ": a collective outside of a manual_computation; before partitioning ",
                       "tensors are whole, so write what is computed on whole tensors, or put it "
                       "into a manual_computation over its axes");
    for (AxisRef ref : without(axes, manual))
      throw_user_error(place, ": axis \"", graph.mesh ? print_axis(*graph.mesh, ref) : cat(ref.axis),
                       "\" is not a manual axis of the computation around it");
    if (changes_shape(it) && !it.attributes.has(Attr::shape))
      throw_user_error(place, ": needs the attribute `shape`, the local shape of its result");
  }
}

}  // namespace

void check_collectives(const Graph& graph) { check(graph, {}); }

}  // namespace tessera
