#include "partitioner/reshard_search.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "partitioner/reshard_states.h"

namespace tessera {

namespace {

// Both lyings divide it.
TensorType padded_for(const Sharding& from, const Sharding& to, TensorType type) {
  for (int d = 0; d < type.rank(); ++d) {
    const auto dim = static_cast<size_t>(d);
    const int64_t parts = std::lcm(size_of(from.dims[dim].axes), size_of(to.dims[dim].axes));
    type.shape[d] = (type.shape[d] + parts - 1) / parts * parts;
  }
  return type;
}

}  // namespace

ReshardPlan ReshardPlanner::by_way_of(const Sharding& middle, const Sharding& from,
                                      const Sharding& to, const TensorType& type) {
  ReshardPlan whole = plan(from, middle, type);
  const ReshardPlan second = plan(middle, to, type);
  whole.moves.insert(whole.moves.end(), second.moves.begin(), second.moves.end());
  whole.seconds += second.seconds;
  whole.wire_bytes += second.wire_bytes;
  whole.is_fallback = whole.is_fallback || second.is_fallback;
  return whole;
}

ReshardPlan ReshardPlanner::search(const Sharding& from, const Sharding& to,
                                   const TensorType& type) {
  // Combiners do not mix: the first is resolved before the second is made.
  if (from.is_partial() && to.is_partial() && from.partial_kind != to.partial_kind)
    return by_way_of(from.without_partial(), from, to, type);
  if (cross_each_other(from, to)) {
    ++fallbacks_;
    const Sharding whole(mesh_, type.rank());
    TESSERA_CHECK(!cross_each_other(from, whole) && !cross_each_other(whole, to), "reshard of ", type,
                  " from ", from, " to ", to, ": parts of one sharding cross each other");
    ReshardPlan plan = by_way_of(whole, from, to, type);
    plan.is_fallback = true;
    return plan;
  }
  ++searches_;
  const StateSearch search(from, to, type, *mesh_, machine_, limits_, manual_);
  const auto larger = static_cast<double>(
      std::max(search.local_bytes(search.start()), search.local_bytes(search.goal())));
  StateSearch::Result found = search.run(std::max(limits_.memory_factor * larger, limits_.memory_floor_bytes));
  if (found.outcome == StateSearch::Outcome::no_way) {
    ++over_memory_;
    found = search.run(std::numeric_limits<double>::infinity());
  }
  ReshardPlan plan;
  plan.is_fallback = found.outcome != StateSearch::Outcome::found;
  fallbacks_ += plan.is_fallback;
  Sharding at = from.closed();
  State state = search.start();
  for (const AtomMove& move : search.join_neighbours(plan.is_fallback ? search.greedy() : found.moves)) {
    ReshardMove step{move.kind,
                     move.dim,
                     move.concat_dim,
                     search.axes_of(move.atoms),
                     search.axes_of(move.target_atoms),
                     {}};
    plan.seconds += search.seconds(state, move);
    plan.wire_bytes += wire_bytes(move.kind, search.local_bytes(state), size_of(step.axes));
    if (move.kind == MoveKind::permute) {
      state = search.permuted(state, move);
      for (size_t d = 0; d < state.dims.size(); ++d)
        at.dims[d].axes = search.axes_of(state.dims[d]);
    } else {
      state = StateSearch::apply(state, move);
      at = apply_move(at, step, to.partial_kind);
    }
    step.result = at;
    plan.moves.push_back(std::move(step));
  }
  TESSERA_CHECK(at.same_layout(to), "reshard of ", type, " from ", from, " to ", to, " ended in ",
                at);
  return plan;
}

const ReshardPlan& ReshardPlanner::plan(const Sharding& from, const Sharding& to,
                                        const TensorType& type) {
  const Sharding source = from.closed(), target = to.closed();
  if (source.indivisible_dim(type.shape) >= 0 || target.indivisible_dim(type.shape) >= 0)
    return plan(source, target, padded_for(source, target, type));
  std::string key = cat(type, " ", source, " > ", target, " ", print_axes(*mesh_, manual_));
  if (const auto known = memo_.find(key); known != memo_.end()) return known->second;
  return memo_.emplace(std::move(key), search(source, target, type)).first->second;
}

}  // namespace tessera
