#include "core/passes/check_collectives.h"

#include <optional>

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

bool tells_devices_apart(const OpDef& op) {
  return is_exchange(op) || op.device_dependent || &op == &ops::kReshard;
}

class CollectiveCheck {
 public:
  // `path` leads to the graph; `manual` are the axes of the manual computations around it, if any.
  void run(const Graph& graph, const std::string& path, const std::optional<AxisList>& manual) const {
    for (size_t i = 0; i < graph.instructions.size(); ++i) {
      const Instruction& it = graph.instructions[i];
      const std::string place =
          cat(it.op->name, " %", i, path.empty() ? "" : cat(" of ", path.substr(0, path.size() - 1)),
              it.scope.empty() ? "" : cat(" in ", it.scope));
      if (tells_devices_apart(*it.op)) check(graph, it, place, manual);
      std::optional<AxisList> inside = manual;
      if (it.is(ops::kManualComputation))
        inside = entered(graph, it, place, manual.value_or(AxisList{}));
      for (const Region& region : control_regions(it))
        run(*region.graph, region_path(path, static_cast<int>(i), region), inside);
    }
  }

 private:
  // The manual axes inside. Those of nested computations are told apart by their one mesh.
  static AxisList entered(const Graph& graph, const Instruction& it, const std::string& place,
                          AxisList manual) {
    const MeshPtr& mesh = it.attributes.get<GraphRef>(Attr::callee)->mesh;
    if (mesh && graph.mesh && !manual.empty() && !(*mesh == *graph.mesh))
      throw_user_error(place, " is over mesh ", *mesh, ", but the manual_computation around it is over ",
                       *graph.mesh, "; write both over one of the two");
    for (Attr key : {Attr::in_shardings, Attr::out_shardings})
      for (const Sharding& sharding : it.attributes.get<Shardings>(key))
        if (mesh && !sharding.is_for(*mesh))
          throw_user_error(place, ": its callee is over mesh ", *mesh, ", but ", name_of(key), " has ",
                           print_sharding(sharding, mesh.get()), "; write both over one of the two");
    for (AxisRef ref : it.attributes.get<AxisList>(Attr::axes)) {
      if (overlaps(manual, ref))
        throw_user_error(place, ": axis \"", mesh ? print_axis(*mesh, ref) : cat(ref.axis),
                         "\" is manual already in the computation around it");
      manual.push_back(ref);
    }
    return manual;
  }

  static void check(const Graph& graph, const Instruction& it, const std::string& place,
                    const std::optional<AxisList>& manual) {
    if (!manual)
      throw_user_error(place, " stands outside a manual_computation; before partitioning a program is ",
                       "as if for one device: leave it out (the partitioner puts in what it needs), or "
                       "put it into a manual_computation over its axes");
    if (!is_exchange(*it.op)) return;
    AxisList axes = it.attributes.get<AxisList>(Attr::axes);
    if (it.attributes.has(Attr::target_axes))
      for (AxisRef ref : it.attributes.get<AxisList>(Attr::target_axes)) axes.push_back(ref);
    for (AxisRef ref : without(axes, *manual))
      throw_user_error(place, ": axis \"", graph.mesh ? print_axis(*graph.mesh, ref) : cat(ref.axis),
                       "\" is not a manual axis of the computation around it");
    if (!axes.empty() && changes_shape(it) && !it.attributes.has(Attr::shape))
      throw_user_error(place, ": needs the attribute `shape`, the local shape of its result");
  }
};

}  // namespace

void check_collectives(const Graph& graph) { CollectiveCheck().run(graph, "", std::nullopt); }

}  // namespace tessera
