// Which devices meet in a collective, as axes of the mesh. Private to the importer.
#pragma once

#include "partitioner/hlo/import_context.h"

namespace tessera::hlo {

// The devices that the module counts, as a mesh of its own: where it is run on more, the context's
// mesh has one more major axis, along which all is repeated.
struct OwnDevices {
  Mesh mesh;
  int first_axis = 0;  // of the context's mesh

  AxisList in_context(AxisList axes) const;
};
OwnDevices own_devices(const ImportContext& context);

// The axes that the replica_groups of the current instruction lie along, in the order of the
// groups; empty where each device is alone. Throws UserError that names line and groups where they
// lie along no axes.
AxisList axes_of_replica_groups(const ImportContext& context);

}  // namespace tessera::hlo
