// The sharding attribute of HLO text, in all its notations.
//
//   {replicated} {manual} {maximal device=0} {unknown} {unreduced}          no tiles
//   {devices=[2,2]0,2,1,3}                                                  V1: a list
//   {devices=[2,1,2]<=[2,2]T(1,0) last_tile_dim_replicate}                  V2: iota
//   {devices=[2,1,2]<=[4] last_tile_dims={manual}}                          subgroups
//   {mesh['a'=2,'b'=4], [{'a'}, {'b':(2)2, ?}], replicated={'c'}}           V3: named
//   {{replicated}, {devices=[2]<=[2]}}                                      a tuple's
//
// with shard_as N or shard_like N at the end, and metadata={...}, which is dropped. The attribute
// xla.sdy.sharding writes named shardings in a notation of its own (sdy.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "partitioner/hlo/device_list.h"

namespace tessera::hlo {

enum class SubgroupKind : uint8_t { replicated, manual, unreduced };

struct NamedDim {
  std::vector<NamedAxis> axes;
  bool open = false;
  int priority = 0;
  bool operator==(const NamedDim&) const = default;
};

struct HloSharding {
  enum class Kind : uint8_t { replicated, manual, maximal, unknown, unreduced, tiled, named, tuple };
  Kind kind = Kind::replicated;

  int64_t device = 0;                       // maximal
  // tiled: the tile counts per dim of the tensor, then those of the subgroups.
  DeviceList devices;
  std::vector<SubgroupKind> last_tile_dims;
  // named
  NamedMesh mesh;
  std::vector<NamedDim> dims;
  std::vector<NamedAxis> replicated_axes, unreduced_axes, manual_axes;
  std::string unreduced_kind = "";          // "" is sum; "max", "min"
  // tuple
  std::vector<HloSharding> elements;

  struct ShardGroup {
    int64_t id = 0;
    bool as = true;  // shard_as; else shard_like
    bool operator==(const ShardGroup&) const = default;
  };
  std::optional<ShardGroup> group;

  int tile_rank() const { return static_cast<int>(devices.dims.size() - last_tile_dims.size()); }
  bool operator==(const HloSharding&) const = default;
};

// {{...}, {...}}: of a tuple with these elements.
HloSharding tuple_of(std::vector<HloSharding> elements);

// Throw UserError that shows the text and the place.
HloSharding parse_hlo_sharding(std::string_view text);  // with its outer braces
std::string print(const HloSharding& sharding);

}  // namespace tessera::hlo
