#include "partitioner/hlo/collective_groups.h"

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera::hlo {
namespace {

// {{0}} together with a channel: one replica, of which all partitions take part.
bool is_all_of_one_replica(const HloInstruction& instruction, const ReplicaGroups& groups) {
  const bool* is_global = instruction.get<bool>("use_global_device_ids");
  return groups.kind == ReplicaGroups::Kind::lists && groups.lists.size() == 1 &&
         groups.lists[0] == std::vector<int64_t>{0} && instruction.find("channel_id") &&
         !(is_global && *is_global);
}

// Empty: all devices in one group.
std::vector<std::vector<int64_t>> stated_groups(const OwnDevices& own,
                                                const HloInstruction& instruction) {
  const auto* groups = instruction.get<ReplicaGroups>("replica_groups");
  if (!groups || is_all_of_one_replica(instruction, *groups)) return {};
  return groups->expand(own.mesh.devices());
}

[[noreturn]] void refuse(const HloInstruction& instruction, const std::string& what) {
  throw_user_error(where(instruction), ": ", what);
}

std::vector<int64_t> first_of_groups(const OwnDevices& own, const HloInstruction& instruction) {
  const int64_t devices = own.mesh.devices();
  std::vector<std::vector<int64_t>> groups = stated_groups(own, instruction);
  if (groups.empty()) return std::vector<int64_t>(static_cast<size_t>(devices), 0);
  std::vector<int64_t> source(static_cast<size_t>(devices), -1);
  for (const std::vector<int64_t>& group : groups)
    for (int64_t device : group) {
      if (device < 0 || device >= devices || source[static_cast<size_t>(device)] >= 0)
        refuse(instruction,
               cat("replica_groups name device ", device, " twice, or there are only ", devices));
      source[static_cast<size_t>(device)] = group[0];
    }
  return source;
}

}  // namespace

AxisList OwnDevices::in_program(AxisList axes) const {
  for (AxisRef& ref : axes) ref.axis += first_axis;
  return axes;
}

AxisList OwnDevices::all_axes() const {
  AxisList axes;
  for (int axis = 0; axis < mesh.rank(); ++axis) axes.push_back(mesh.axis(axis));
  return in_program(canonical(axes));
}

MeshPtr own_mesh(const HloModule& module, const MeshPtr& mesh) {
  const bool may_repeat = mesh->rank() > 0 && mesh->axes()[0].name.starts_with("replica");
  return may_repeat ? choose_mesh(module, 0) : mesh;
}

OwnDevices own_devices(const MeshPtr& own, const MeshPtr& mesh) {
  return {*own, own->rank() < mesh->rank() ? mesh->rank() - own->rank() : 0};
}

AxisList axes_of_replica_groups(const OwnDevices& own, const HloInstruction& instruction,
                                bool any_order) {
  const int64_t devices = own.mesh.devices();
  const std::vector<std::vector<int64_t>> groups = stated_groups(own, instruction);
  if (groups.empty()) return own.all_axes();
  int64_t count = 0;
  for (const std::vector<int64_t>& group : groups) count += static_cast<int64_t>(group.size());
  const std::optional<AxisList> axes =
      count == devices ? axes_of_groups(groups, own.mesh, !any_order) : std::nullopt;
  if (!axes)
    refuse(
        instruction,
        cat("replica_groups=", print(*instruction.get<ReplicaGroups>("replica_groups")), " of ",
            instruction.opcode,
            count == devices
                ? cat(" do not lie along axes of the mesh ", own.mesh,
                      "; a group is the devices that differ in some of them alone, in their order")
                : cat(" name ", count, " devices, but the program has ", devices)));
  return own.in_program(*axes);
}

std::vector<int64_t> senders(const OwnDevices& own, const HloInstruction& instruction) {
  if (instruction.opcode == "collective-broadcast") return first_of_groups(own, instruction);
  const int64_t devices = own.mesh.devices();
  const auto* pairs = instruction.get<IntLists>("source_target_pairs");
  if (!pairs) refuse(instruction, "collective-permute needs source_target_pairs={{0,1},...}");
  std::vector<int64_t> source(static_cast<size_t>(devices), -1);
  std::vector<bool> sends(static_cast<size_t>(devices), false);
  for (const Ints& pair : pairs->lists) {
    const std::string text = cat("source_target_pairs has {", join(pair, ","), "}");
    if (pair.size() != 2) refuse(instruction, cat(text, ", not a pair"));
    for (int64_t device : pair)
      if (device < 0 || device >= devices)
        refuse(instruction, cat(text, ", but there are ", devices, " devices, numbered from 0"));
    if (sends[static_cast<size_t>(pair[0])] || source[static_cast<size_t>(pair[1])] >= 0)
      refuse(instruction, cat(text, ", of which one sends or receives twice"));
    sends[static_cast<size_t>(pair[0])] = true;
    source[static_cast<size_t>(pair[1])] = pair[0];
  }
  return source;
}

}  // namespace tessera::hlo
