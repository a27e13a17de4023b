#include "partitioner/hlo/collective_groups.h"

#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera::hlo {
namespace {

// {{0}} together with a channel: one replica, of which all partitions take part.
bool is_all_of_one_replica(const ImportContext& context, const ReplicaGroups& groups) {
  return groups.kind == ReplicaGroups::Kind::lists && groups.lists.size() == 1 &&
         groups.lists[0] == std::vector<int64_t>{0} && context.instruction().find("channel_id") &&
         !context.flag("use_global_device_ids");
}

}  // namespace

AxisList OwnDevices::in_context(AxisList axes) const {
  for (AxisRef& ref : axes) ref.axis += first_axis;
  return axes;
}

OwnDevices own_devices(const ImportContext& context) {
  const Mesh& mesh = *context.mesh();
  if (mesh.rank() == 0 || !mesh.axes()[0].name.starts_with("replica")) return {mesh, 0};
  const MeshPtr own = choose_mesh(context.module(), 0);
  return {*own, own->rank() < mesh.rank() ? mesh.rank() - own->rank() : 0};
}

AxisList axes_of_replica_groups(const ImportContext& context) {
  const OwnDevices own = own_devices(context);
  const int64_t devices = own.mesh.devices();
  const auto* groups = context.instruction().get<ReplicaGroups>("replica_groups");
  std::vector<std::vector<int64_t>> lists;
  if (groups && !is_all_of_one_replica(context, *groups)) lists = groups->expand(devices);
  if (lists.empty()) {  // all of them
    AxisList axes;
    for (int axis = 0; axis < own.mesh.rank(); ++axis) axes.push_back(own.mesh.axis(axis));
    return own.in_context(canonical(axes));
  }
  int64_t count = 0;
  for (const std::vector<int64_t>& list : lists) count += static_cast<int64_t>(list.size());
  const std::optional<AxisList> axes =
      count == devices ? axes_of_groups(lists, own.mesh) : std::nullopt;
  if (!axes)
    context.fail(cat("replica_groups=", print(*groups), " of ", context.instruction().opcode,
                     count == devices
                         ? cat(" do not lie along axes of the mesh ", own.mesh,
                               "; a group is the devices that differ in some of them alone")
                         : cat(" name ", count, " devices, but the program has ", devices)));
  return own.in_context(*axes);
}

}  // namespace tessera::hlo
