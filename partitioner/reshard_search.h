// How to get a tensor from one lying to another: the cheapest sequence of moves, by search.
//
//     [{x}, {}]  ->  [{}, {x}]          all_to_all{split 1, concat 0, x}
//     [{x, y}]   ->  [{y}]              permute{x,y -> y,x}, all_gather{0, x}
//     [{}] partial{sum: x} -> [{x}]     reduce_scatter{0, x}
//
// Both shardings are cut into common atomic parts of axes. A state is the ordered atoms of every
// dim and the set of partial ones. A move costs latency + bytes on the wire / bandwidth of its
// axes. A* with the bound "if any communication is left, at least half of the final shard must
// still arrive".
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

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

struct ReshardPlan {
  std::vector<ReshardMove> moves;
  double seconds = 0;
  double wire_bytes = 0;     // that one device sends
  bool is_fallback = false;  // found greedily, because the search was cut off
};

// Bytes that one device sends for a move on a shard of `local_bytes` (before the move).
double wire_bytes(MoveKind kind, int64_t local_bytes, int64_t group_size);
// Seconds of the move.
double move_seconds(MoveKind kind, int64_t local_bytes, const AxisList& axes, const Mesh& mesh,
                    const MachineModel& machine);

// Plans reshards on one mesh and remembers them.
class ReshardPlanner {
 public:
  struct Options {
    // States with larger shards are not entered, unless source or target are as large.
    double memory_cap_bytes = 4e9;
    int64_t max_states = 20000;  // expanded before the greedy plan is taken
  };

  ReshardPlanner(MeshPtr mesh, MachineModel machine)
      : ReshardPlanner(std::move(mesh), std::move(machine), Options()) {}
  ReshardPlanner(MeshPtr mesh, MachineModel machine, Options options)
      : mesh_(std::move(mesh)), machine_(std::move(machine)), options_(options) {}

  // Every dim must divide under both. The reference lives as long as the planner.
  const ReshardPlan& plan(const Sharding& from, const Sharding& to, const TensorType& type);
  double seconds(const Sharding& from, const Sharding& to, const TensorType& type) {
    return plan(from, to, type).seconds;
  }

  const MachineModel& machine() const { return machine_; }
  const MeshPtr& mesh() const { return mesh_; }
  int64_t searches() const { return searches_; }
  int64_t fallbacks() const { return fallbacks_; }

 private:
  ReshardPlan search(const Sharding& from, const Sharding& to, const TensorType& type);

  MeshPtr mesh_;
  MachineModel machine_;
  Options options_;
  std::unordered_map<std::string, ReshardPlan> memo_;
  int64_t searches_ = 0, fallbacks_ = 0;
};

}  // namespace tessera
