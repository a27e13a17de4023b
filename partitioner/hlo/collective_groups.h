// Which devices meet in a collective, as axes of the mesh. Private to the importer.
#pragma once

#include "core/mesh/mesh.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

// The devices that the module counts, as a mesh of its own: where it is run on more, the program's
// mesh has one more major axis, along which all is repeated.
struct OwnDevices {
  Mesh mesh;
  int first_axis = 0;  // of the program's mesh

  AxisList in_program(AxisList axes) const;
  AxisList all_axes() const;  // in the program's mesh
};
// The mesh of those devices (`mesh` itself where there are no more). Reads the whole module.
MeshPtr own_mesh(const HloModule& module, const MeshPtr& mesh);
OwnDevices own_devices(const MeshPtr& own, const MeshPtr& mesh);

// The axes that the replica_groups lie along, in the order of the groups; empty where each device
// is alone. With `any_order` the devices of a group may stand in any order, as they do for a
// reduction. Throws UserError that names line and groups where they lie along no axes.
AxisList axes_of_replica_groups(const OwnDevices& own, const HloInstruction& instruction,
                                bool any_order = false);

// collective-permute and collective-broadcast: by device, from whom it receives, or -1. Throws
// UserError where the text contradicts itself.
std::vector<int64_t> senders(const OwnDevices& own, const HloInstruction& instruction);

// Throws UserError, naming the line, where a collective runs along an axis that is not manual
// there.
void check_collective_axes(const HloModule& module, const MeshPtr& mesh);

}  // namespace tessera::hlo
