// What a module's text says of devices, wherever it says it: the ground for choosing a mesh.
#pragma once

#include <string>
#include <vector>

#include "partitioner/hlo/module.h"
#include "partitioner/hlo/place_devices.h"

namespace tessera::hlo {

struct NamedMeshUse {
  NamedMesh mesh;
  int64_t uses = 0;  // by shardings; 0: only declared, or named by replica groups
};

struct DeviceUses {
  std::vector<NamedMeshUse> meshes;       // distinct, by first appearance; with axes
  std::vector<Arrangement> arrangements;  // of tiles and groups, distinct, by first appearance
  std::vector<int64_t> arrangement_uses;
  int64_t devices = 1;  // of the largest arrangement or mesh
  int64_t highest = 0;  // the highest device that a pair or an uneven group names, plus 1
};

// Throws UserError where an attribute xla.sdy.* cannot be read.
DeviceUses device_uses(const HloModule& module);

int64_t devices_of(const NamedMesh& mesh);

}  // namespace tessera::hlo
