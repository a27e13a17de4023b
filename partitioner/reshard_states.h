// The search behind reshards: A* over the places of atomic axis parts. Private to the partitioner;
// see reshard_search.h.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partitioner/reshard_search.h"

namespace tessera {

// Whether some part of an axis in one sharding and some part in the other overlap without a common
// refinement (parts of 2 and of 3 of an axis of 6): no list of atoms can describe both.
bool cross_each_other(const Sharding& a, const Sharding& b);

// Atoms are numbered; a state is their places.
struct State {
  std::vector<std::vector<int>> dims;
  std::set<int> partial;

  // Unique text: dims separated by '|', then the partial set.
  std::string key() const {
    std::string key;
    for (const std::vector<int>& dim : dims) {
      for (int atom : dim) key += static_cast<char>('0' + atom);
      key += '|';
    }
    for (int atom : partial) key += static_cast<char>('0' + atom);
    return key;
  }
  bool operator==(const State&) const = default;
};

struct AtomMove {
  MoveKind kind = MoveKind::slice;
  int dim = -1, concat_dim = -1;
  std::vector<int> atoms, target_atoms;
};

class StateSearch {
 public:
  // `manual`: axes that hold no replicas.
  StateSearch(const Sharding& from, const Sharding& to, const TensorType& type, const Mesh& mesh,
              const MachineModel& machine, const SearchLimits& limits, const AxisList& manual = {})
      : type_(type), mesh_(mesh), machine_(machine), limits_(limits) {
    collect_atoms(from, to, manual);
    start_ = state_of(from);
    goal_ = state_of(to);
  }

  enum class Outcome : uint8_t { found, cut_off, no_way };
  struct Result {
    Outcome outcome = Outcome::no_way;
    std::vector<AtomMove> moves;
  };
  // The cheapest moves through states of at most `cap_bytes` per device.
  Result run(double cap_bytes) const;
  // all_reduce, gather down to the common prefix, slice: always possible.
  std::vector<AtomMove> greedy() const;

  // slice{0, x}, slice{0, y} is slice{0, x,y}, where that is not dearer (links differ); the same for
  // reductions that follow one another.
  std::vector<AtomMove> join_neighbours(const std::vector<AtomMove>& moves) const;

  State start() const { return start_; }
  State goal() const { return goal_; }
  // The state after a permute: dim by dim, by size, atoms make way for the move's target atoms.
  State permuted(const State& state, const AtomMove& move) const;
  AxisList axes_of(const std::vector<int>& atoms) const {
    AxisList axes;
    for (int atom : atoms) axes.push_back(atoms_[static_cast<size_t>(atom)]);
    return canonical(axes);
  }
  int64_t local_bytes(const State& state) const {
    int64_t parts = 1;
    for (const auto& dim : state.dims) parts *= product(dim);
    return type_.bytes() / parts;
  }
  double seconds(const State& before, const AtomMove& move) const {
    return move_seconds(move.kind, local_bytes(before), axes_of(move.atoms), mesh_, machine_);
  }
  static State apply(State state, const AtomMove& move, const State* permuted = nullptr);

 private:
  void collect_atoms(const Sharding& from, const Sharding& to, const AxisList& manual);
  State state_of(const Sharding& sharding) const;
  std::vector<int> atoms_of(const AxisList& axes) const;
  int64_t product(const std::vector<int>& atoms) const {
    int64_t product = 1;
    for (int atom : atoms) product *= atoms_[static_cast<size_t>(atom)].size;
    return product;
  }
  bool fits(int dim, const std::vector<int>& current, const std::vector<int>& more) const {
    return type_.shape[dim] % (product(current) * product(more)) == 0;
  }
  std::vector<int> unused(const State& state) const;
  bool needs_communication(const State& state) const;
  double bound(const State& state) const;

  using Emit = std::function<void(AtomMove, State)>;
  void neighbours(const State& state, const Emit& emit) const;
  void partial_moves(const State& state, const Emit& emit) const;
  void slices(const State& state, const Emit& emit) const;
  void suffix_moves(const State& state, const Emit& emit) const;
  void permutes(const State& state, const Emit& emit) const;
  void arrange(const State& state, State& next, size_t dim, std::vector<int>& free_atoms,
               const Emit& emit, int& budget) const;
  static AtomMove permute_between(const State& before, const State& after);

  const TensorType& type_;
  const Mesh& mesh_;
  const MachineModel& machine_;
  const SearchLimits& limits_;
  std::vector<AxisRef> atoms_;
  State start_, goal_;
};

}  // namespace tessera
