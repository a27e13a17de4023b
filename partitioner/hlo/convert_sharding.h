// Between HLO's shardings and ours: a mesh that all of a module's shardings can be written over,
// and both ways of writing.
//
// Named axes are taken as they are. Tile assignments are factored: {devices=[4,2]<=[2,4]T(1,0)}
// over arange reshaped [2,4] and transposed is dim 0 over the axis of stride 1, dim 1 over that of
// stride 4, so that axes are cut where strides begin. What no axes can express (a V1 list in an
// arbitrary order) is a sharding over a second mesh with the same axes and another device order.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/mesh/sharding.h"
#include "partitioner/hlo/module.h"
#include "partitioner/hlo/place_devices.h"

namespace tessera::hlo {

// The mesh of a module for `devices` devices (0: as many as the module speaks of, or
// num_partitions, or 1). Named axes first, those of the mesh with the most devices that a sharding
// uses; their order is that of their strides where device_ids are such. Else factors "x0", "x1",
// ... fine enough for every tile assignment. Where `devices` is a multiple of what the module
// speaks of, one more major axis "replica" is added, over which all is replicated. Throws
// ConfigError with both numbers where it is not a multiple.
MeshPtr choose_mesh(const HloModule& module, int64_t devices);

// What a sharding says of one tensor of rank `rank`; dims of `unspecified` are open.
struct ConvertedSharding {
  Sharding sharding;        // over the mesh, or one of its device orders
  AxisList manual;          // axes that are manual
  bool is_unknown = false;  // says nothing: propagation decides
  bool is_manual = false;   // {manual}: all axes
  std::string note;         // maximal was taken as replicated, ...; "" mostly
};
// Throws UserError: rank mismatch, device out of range, a tile count that does not fit, axis
// unknown.
ConvertedSharding convert_sharding(const HloSharding& sharding, const MeshPtr& mesh, int rank,
                                   const std::vector<int64_t>& unspecified = {});

// Our sharding in the two notations: {devices=[2,1,2]<=[4] last_tile_dim_replicate} (iota wherever
// the order is one) and {mesh['data'=2,'model'=2], [{'data'}, {}]}.
HloSharding tile_sharding(const Sharding& sharding);
HloSharding named_sharding(const Sharding& sharding);

// How a tiled or named sharding arranges devices: in tiles, or in the axes' parts that it names.
Arrangement arrangement_of(const HloSharding& sharding);

// The axes of `mesh` along which the groups lie: every group is the devices that differ in these
// axes alone, in the order of the list's coordinate. Unset where the groups are not of that form.
// Without `in_order` the order within a group is no matter (all_reduce). Groups of the first n
// devices stand for the same groups n, 2n, ... devices on.
std::optional<AxisList> axes_of_groups(const std::vector<std::vector<int64_t>>& groups,
                                       const Mesh& mesh, bool in_order = true);

}  // namespace tessera::hlo
