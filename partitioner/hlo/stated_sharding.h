// What an instruction of the text says of how its leaves lie, and what that is in our terms.
//
// JAX writes shardings twice: as tile assignments (sharding=) and by axis names (xla.sdy.sharding).
// The named one is preferred, as only it knows of open dims and priorities. A custom call Sharding
// may leave dims open by backend_config="unspecified_dims=[0,1]".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ir/builder.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/module.h"

namespace tessera::hlo {

struct StatedSharding {
  HloSharding sharding;
  Ints unspecified;          // open dims of a tile assignment
  bool is_from_sdy = false;  // xla.sdy.sharding
};
// One per leaf, or none where the instruction states nothing. Throws UserError where there are
// others than leaves.
std::vector<StatedSharding> stated_shardings(const HloModule& module,
                                             const HloInstruction& instruction);

// The value of a frontend attribute without its quotes and escapes; "" where there is none.
std::string frontend_attribute(const HloInstruction& instruction, std::string_view name);
// The meshes that the module names for xla.sdy.*; none where it does not.
std::map<std::string, NamedMesh> sdy_meshes(const HloModule& module);
// The dims that backend_config leaves open.
Ints unspecified_dims(const HloInstruction& instruction);

struct StatedLying {
  // Over `mesh`, or one of the same devices in another order; unset where nothing is demanded.
  std::optional<Sharding> sharding;
  std::vector<ShardingGroup> groups;
  std::vector<std::string> notes;  // what is taken otherwise than written
};
// Partial (unreduced) parts are dropped: when to reduce is the partitioner's matter. So are manual
// axes, which the computation around has. Throws UserError where the sharding does not fit the
// type.
StatedLying lying_of(const StatedSharding& stated, const TensorType& type, const MeshPtr& mesh);

// x again, as a value of its own that can lie otherwise: a constraint is a name and a sharding on
// it.
Value same_value(Builder& b, Value x);

// The graph's id of group `id`: those of shard_as and shard_like are apart. Throws UserError where
// the number is out of range.
ShardingGroup group_of(int64_t id, bool is_as);

}  // namespace tessera::hlo
