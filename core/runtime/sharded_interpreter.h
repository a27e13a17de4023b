// The sharded reference interpreter: a value is one tensor per virtual device, tied to the logical
// tensor by its sharding. The oracle of the partitioner: it runs a graph after any pass from
// insert_reshards on, before localize (each op on the local blocks that its factor axes cut) and
// after it (each op on the local shapes that the graph states).
//
// It takes nothing on trust: collectives move data between the devices, a value that becomes
// partial is split into random addends, and after every instruction devices that should hold the
// same shard are compared bit by bit.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/ir/graph.h"

namespace tessera {

struct ShardedOptions {
  uint64_t seed = 1;  // of the addends that partial values are split into
  // Sees every value, assembled, as it is made. Not called for start operands.
  std::function<void(Value, const HostTensor&)> observe = nullptr;
};

// Padding is garbage (NaN) wherever the lattice of core/ir/padding.h claims nothing; what it claims is
// checked after every instruction. Once masks are in place (Graph::masks_padding) no op may need more
// than is claimed; before, needs are met on the way. Inputs other than data are zero in padding.
//
// Takes and returns logical (global) tensors. Throws InternalError, naming the instruction, where
// replicas disagree or a shard has the wrong type.
std::vector<HostTensor> interpret_sharded(const Graph& graph, std::span<const HostTensor> inputs,
                                          const ShardedOptions& options = {});

// What each device holds of `global`; padding is garbage; partial shardings split it into random
// addends (for max and min: one device has the value, the others something less or more).
std::vector<HostTensor> shard(const HostTensor& global, const Sharding& sharding, uint64_t seed);

// The inverse, with the padding. Throws InternalError where replicas differ.
HostTensor assemble(std::span<const HostTensor> shards, const Sharding& sharding);

}  // namespace tessera
