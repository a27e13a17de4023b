// What the reference interpreters know of many devices at once: how tensors are cut over them, put
// together again, and moved between them. One tensor per device of the mesh; devices that take no
// part (another branch, another turn of a loop) have none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

using Shards = std::vector<HostTensor>;  // by device
using Devices = std::vector<int64_t>;    // ascending

Devices all_devices(const Mesh& mesh);

// Ops whose result depends on where a device stands or on what others hold: collectives, all_slice,
// replicated_to_partial, shift and axis_index.
bool is_exchange(const OpDef& op);
// The result on each device of `devices`. Throws InternalError where a group reaches beyond them.
Shards exchange(const OpDef& op, const Attributes& attributes, const Mesh& mesh, const Shards& in,
                const Devices& devices);

// What the devices hold of `global`; a partial sharding splits it into random addends by `seed`.
// Where `stored` (default: the least that the axes divide) is larger, the padding is garbage.
Shards shard_over(const HostTensor& global, const Sharding& sharding, uint64_t seed,
                  const Devices& devices, const std::optional<Shape>& stored = std::nullopt);

// The value of the shards on `devices`, which must cover it, with its padding. Throws InternalError where
// replicas among them differ.
HostTensor assemble_from(std::span<const HostTensor> shards, const Sharding& sharding,
                         const Devices& devices);

}  // namespace tessera
