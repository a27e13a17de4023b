// An arrangement of devices over the axes of a mesh.
#pragma once

#include <vector>

#include "core/mesh/mesh.h"
#include "partitioner/hlo/device_list.h"

namespace tessera::hlo {

// An arrangement, and whether the devices along each dim hold the same: {0,3},{1,2} and {3,0},{2,1}
// lie alike where the last dim is one of copies.
struct Arrangement {
  DeviceList devices;
  std::vector<bool> is_copies;  // by dim
};

struct PlacedDevices {
  MeshPtr mesh;                // as given, or with the same axes and another device order
  std::vector<AxisList> axes;  // by dim; empty for copies
};

// Where the mesh is larger than the arrangement, what lies on device d lies on d + n, d + 2n, ...
// too. Throws UserError where the arrangement's devices are not 0 .. n-1 or n does not divide the
// mesh's.
PlacedDevices place_devices(const Arrangement& arrangement, const MeshPtr& mesh);

// The arrangement with its copies in the last dim, in the order of the mesh's positions: two are
// equal where they lie alike.
DeviceList with_copies_last(const Arrangement& arrangement, const Mesh& mesh);

}  // namespace tessera::hlo
