// The moves that a reshard is made of: what each does to a lying, and what it costs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/mesh/sharding.h"
#include "partitioner/machine_model.h"

namespace tessera {

enum class MoveKind : uint8_t {
  slice,           // appends `axes` to `dim`; no communication
  all_gather,      // removes the minor suffix `axes` of `dim`
  all_to_all,      // moves the minor suffix `axes` of `concat_dim` to the minor end of `dim`
  permute,         // the device at coordinate c along `axes` sends to coordinate c of `target_axes`
  all_reduce,      // resolves the partial `axes`
  reduce_scatter,  // resolves the partial `axes` and appends them to `dim`
  replicated_to_partial,  // coordinate 0 of `axes` keeps the value, the others the identity
};
std::string_view name_of(MoveKind kind);

struct ReshardMove {
  MoveKind kind = MoveKind::slice;
  int dim = -1;
  int concat_dim = -1;
  AxisList axes;
  AxisList target_axes;
  Sharding result;  // the lying after this move
};

// all_to_all{split=1, concat=0, x}
std::string print_move(const ReshardMove& move);

// Bytes that one device sends for a move on a shard of `local_bytes` (before the move).
double wire_bytes(MoveKind kind, int64_t local_bytes, int64_t group_size);
// Seconds of the move.
double move_seconds(MoveKind kind, int64_t local_bytes, const AxisList& axes, const Mesh& mesh,
                    const MachineModel& machine);

// How a tensor that lies `at` lies after `move`, whose `result` is not read; `made` is the combiner
// of a replicated_to_partial. Not for permutes, of which the result says all.
Sharding apply_move(Sharding at, const ReshardMove& move, ReduceKind made);

}  // namespace tessera
