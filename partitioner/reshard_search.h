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

#include "partitioner/reshard_moves.h"

namespace tessera {

struct ReshardPlan {
  std::vector<ReshardMove> moves;
  double seconds = 0;
  double wire_bytes = 0;     // that one device sends
  bool is_fallback = false;  // found greedily, because the search was cut off
};

struct SearchLimits {
  // States whose shards are more than this many times the larger of source and target are not
  // entered while there is another way; plans that must are counted.
  double memory_factor = 2;
  double memory_floor_bytes = 1 << 20;  // shards of up to this are never too large
  int64_t max_states = 20000;  // expanded before the greedy plan is taken
};

// Plans reshards on one mesh and remembers them.
class ReshardPlanner {
 public:
  ReshardPlanner(MeshPtr mesh, MachineModel machine, SearchLimits limits = {})
      : mesh_(std::move(mesh)), machine_(std::move(machine)), limits_(limits) {}

  // Extents that do not divide are rounded up. The reference lives as long as the planner.
  const ReshardPlan& plan(const Sharding& from, const Sharding& to, const TensorType& type);
  double seconds(const Sharding& from, const Sharding& to, const TensorType& type) {
    return plan(from, to, type).seconds;
  }

  // Axes that hold no replicas from here on: those of the manual computations around.
  void set_manual(AxisList manual) { manual_ = std::move(manual); }

  const MachineModel& machine() const { return machine_; }
  const MeshPtr& mesh() const { return mesh_; }
  int64_t searches() const { return searches_; }
  int64_t fallbacks() const { return fallbacks_; }
  int64_t over_memory() const { return over_memory_; }  // plans above SearchLimits::memory_factor

 private:
  // The plan in two parts.
  ReshardPlan by_way_of(const Sharding& middle, const Sharding& from, const Sharding& to,
                        const TensorType& type);
  ReshardPlan search(const Sharding& from, const Sharding& to, const TensorType& type);

  MeshPtr mesh_;
  MachineModel machine_;
  SearchLimits limits_;
  AxisList manual_;
  std::unordered_map<std::string, ReshardPlan> memo_;
  int64_t searches_ = 0, fallbacks_ = 0, over_memory_ = 0;
};

}  // namespace tessera
