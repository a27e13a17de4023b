// Which axes of the mesh a manual region has to itself. Private to the importer.
#pragma once

#include "core/mesh/mesh.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

struct ManualAxes {
  AxisList own;      // of this region; ascending
  AxisList outside;  // of those around it, as the text says
};
// Of a kManualCall. Throws UserError where it counts devices in another order than the mesh.
ManualAxes manual_axes_of(const HloInstruction& call, const MeshPtr& mesh);

}  // namespace tessera::hlo
