#include "partitioner/reshard_states.h"

#include <algorithm>
#include <limits>
#include <map>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "core/base/error.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Every ordered list of some of `atoms`: all that a slice or reduce_scatter may append in one move.
// Of many atoms only single ones; neighbouring moves are joined afterwards (join_neighbours).
template <typename Body>
void for_each_list(const std::vector<int>& atoms, const Body& body) {
  constexpr size_t kFew = 4;
  std::vector<int> list;
  auto extend = [&](auto&& self) -> void {
    for (int atom : atoms) {
      if (std::count(list.begin(), list.end(), atom)) continue;
      list.push_back(atom);
      body(list);
      if (atoms.size() <= kFew) self(self);
      list.pop_back();
    }
  };
  extend(extend);
}

using Borders = std::map<int, std::set<int64_t>>;  // by axis, in units of `pre`

Borders borders_of(const Sharding& a, const Sharding& b) {
  Borders borders;
  for (const Sharding* sharding : {&a, &b})
    for (const AxisRef& ref : sharding->used_axes()) {
      borders[ref.axis].insert(ref.pre);
      borders[ref.axis].insert(ref.pre * ref.size);
    }
  return borders;
}

}  // namespace

bool cross_each_other(const Sharding& a, const Sharding& b) {
  for (const auto& [axis, cuts] : borders_of(a, b))
    for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut)
      if (*std::next(cut) % *cut != 0) return true;
  return false;
}

// Cuts every axis at the borders of all its parts.
void StateSearch::collect_atoms(const Sharding& from, const Sharding& to,
                                const AxisList& manual) {
  TESSERA_CHECK(!cross_each_other(from, to), "parts of a mesh axis cross each other: ", from,
                " and ", to);
  for (const auto& [axis, cuts] : borders_of(from, to))
    for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut)
      atoms_.push_back({axis, *cut, *std::next(cut) / *cut});
  // Axes that neither side uses hold replicas, which can share the work: a value that is replicated
  // inside hosts crosses them in shards.
  constexpr size_t kMostAtoms = 5;
  const Borders used = borders_of(from, to);
  for (int a = 0; a < mesh_.rank() && atoms_.size() < kMostAtoms; ++a)
    if (mesh_.axis(a).size > 1 && !used.count(a) && !overlaps(manual, mesh_.axis(a)))
      atoms_.push_back(mesh_.axis(a));
}

std::vector<int> StateSearch::atoms_of(const AxisList& axes) const {
  std::vector<int> result;
  for (const AxisRef& ref : axes)
    for (size_t atom = 0; atom < atoms_.size(); ++atom)
      if (overlaps(ref, atoms_[atom])) result.push_back(static_cast<int>(atom));
  return result;
}

State StateSearch::state_of(const Sharding& sharding) const {
  State state;
  for (const DimSharding& dim : sharding.dims) state.dims.push_back(atoms_of(dim.axes));
  for (int atom : atoms_of(sharding.partial)) state.partial.insert(atom);
  return state;
}

std::vector<int> StateSearch::unused(const State& state) const {
  std::vector<bool> used(atoms_.size(), false);
  for (const auto& dim : state.dims)
    for (int atom : dim) used[static_cast<size_t>(atom)] = true;
  for (int atom : state.partial) used[static_cast<size_t>(atom)] = true;
  std::vector<int> result;
  for (size_t atom = 0; atom < atoms_.size(); ++atom)
    if (!used[atom]) result.push_back(static_cast<int>(atom));
  return result;
}

bool StateSearch::needs_communication(const State& state) const {
  for (int atom : state.partial)
    if (!goal_.partial.count(atom)) return true;
  for (size_t d = 0; d < state.dims.size(); ++d) {
    const auto &now = state.dims[d], &wanted = goal_.dims[d];
    if (now.size() > wanted.size() || !std::equal(now.begin(), now.end(), wanted.begin()))
      return true;
  }
  return false;
}

double StateSearch::bound(const State& state) const {
  if (!needs_communication(state)) return 0;
  double latency = kInfinity, bandwidth = 0;
  for (const AxisRef& atom : atoms_) {
    const Link link = machine_.link(mesh_, {atom});
    latency = std::min(latency, link.latency);
    bandwidth = std::max(bandwidth, link.bandwidth);
  }
  return latency + 0.5 * static_cast<double>(local_bytes(goal_)) / bandwidth;
}

State StateSearch::apply(State state, const AtomMove& move, const State* permuted) {
  auto append = [&](int dim) {
    auto& atoms = state.dims[static_cast<size_t>(dim)];
    atoms.insert(atoms.end(), move.atoms.begin(), move.atoms.end());
  };
  auto cut = [&](int dim) {
    auto& atoms = state.dims[static_cast<size_t>(dim)];
    atoms.resize(atoms.size() - move.atoms.size());
  };
  auto resolve = [&] {
    for (int atom : move.atoms) state.partial.erase(atom);
  };
  switch (move.kind) {
    case MoveKind::slice:
      append(move.dim);
      break;
    case MoveKind::all_gather:
      cut(move.dim);
      break;
    case MoveKind::all_to_all:
      cut(move.concat_dim), append(move.dim);
      break;
    case MoveKind::all_reduce:
      resolve();
      break;
    case MoveKind::reduce_scatter:
      resolve(), append(move.dim);
      break;
    case MoveKind::replicated_to_partial:
      state.partial.insert(move.atoms.begin(), move.atoms.end());
      break;
    case MoveKind::permute:
      state = *permuted;
      break;
  }
  return state;
}

void StateSearch::partial_moves(const State& state, const Emit& emit) const {
  std::vector<int> to_resolve, to_make;
  for (int atom : state.partial)
    if (!goal_.partial.count(atom)) to_resolve.push_back(atom);
  for (int atom : unused(state))
    if (goal_.partial.count(atom)) to_make.push_back(atom);
  // Always the last move, so that nothing is done to addends that are zero.
  if (!to_make.empty() && to_resolve.empty() && state.dims == goal_.dims) {
    AtomMove move{MoveKind::replicated_to_partial, -1, -1, to_make, {}};
    emit(move, apply(state, move));
  }
  for (uint32_t subset = 1; subset < (1u << std::min<size_t>(to_resolve.size(), 8)); ++subset) {
    AtomMove move{MoveKind::all_reduce, -1, -1, {}, {}};
    for (size_t i = 0; i < to_resolve.size(); ++i)
      if (subset >> i & 1) move.atoms.push_back(to_resolve[i]);
    emit(move, apply(state, move));
  }
  for (size_t d = 0; d < state.dims.size(); ++d)
    for_each_list(to_resolve, [&](const std::vector<int>& list) {
      if (!fits(static_cast<int>(d), state.dims[d], list)) return;
      AtomMove move{MoveKind::reduce_scatter, static_cast<int>(d), -1, list, {}};
      emit(move, apply(state, move));
    });
  // Of many atoms, what the goal wants next on this dim as one move.
  for (size_t d = 0; d < state.dims.size(); ++d) {
    const auto &now = state.dims[d], &wanted = goal_.dims[d];
    if (now.size() >= wanted.size() || !std::equal(now.begin(), now.end(), wanted.begin()))
      continue;
    AtomMove move{MoveKind::reduce_scatter, static_cast<int>(d), -1, {}, {}};
    for (size_t i = now.size(); i < wanted.size() && state.partial.count(wanted[i]); ++i)
      move.atoms.push_back(wanted[i]);
    if (move.atoms.size() > 1 && fits(move.dim, now, move.atoms)) emit(move, apply(state, move));
  }
}

void StateSearch::slices(const State& state, const Emit& emit) const {
  std::vector<int> atoms;
  for (int atom : unused(state))
    if (!goal_.partial.count(atom)) atoms.push_back(atom);
  for (size_t d = 0; d < state.dims.size(); ++d)
    for_each_list(atoms, [&](const std::vector<int>& list) {
      if (!fits(static_cast<int>(d), state.dims[d], list)) return;
      AtomMove move{MoveKind::slice, static_cast<int>(d), -1, list, {}};
      emit(move, apply(state, move));
    });
}

void StateSearch::suffix_moves(const State& state, const Emit& emit) const {
  for (size_t d = 0; d < state.dims.size(); ++d) {
    const auto& dim = state.dims[d];
    for (size_t keep = 0; keep < dim.size(); ++keep) {
      const std::vector<int> suffix(dim.begin() + static_cast<std::ptrdiff_t>(keep), dim.end());
      AtomMove gather{MoveKind::all_gather, static_cast<int>(d), -1, suffix, {}};
      emit(gather, apply(state, gather));
      for (size_t to = 0; to < state.dims.size(); ++to) {
        if (to == d || !fits(static_cast<int>(to), state.dims[to], suffix)) continue;
        AtomMove move{MoveKind::all_to_all, static_cast<int>(to), static_cast<int>(d), suffix, {}};
        emit(move, apply(state, move));
      }
    }
  }
}

AtomMove StateSearch::permute_between(const State& before, const State& after) {
  AtomMove move{MoveKind::permute, -1, -1, {}, {}};
  for (size_t d = 0; d < before.dims.size(); ++d) {
    if (before.dims[d] == after.dims[d]) continue;
    move.atoms.insert(move.atoms.end(), before.dims[d].begin(), before.dims[d].end());
    move.target_atoms.insert(move.target_atoms.end(), after.dims[d].begin(), after.dims[d].end());
  }
  // Both sides name the same atoms, so that every device sends to and receives from exactly one.
  const std::vector<int> from = move.atoms, to = move.target_atoms;
  for (int atom : to)
    if (!std::count(from.begin(), from.end(), atom)) move.atoms.push_back(atom);
  for (int atom : from)
    if (!std::count(to.begin(), to.end(), atom)) move.target_atoms.push_back(atom);
  return move;
}

// Fills dims from `dim` on with sequences of free atoms of the size that the dim has now.
void StateSearch::arrange(const State& state, State& next, size_t dim, std::vector<int>& free_atoms,
                          const Emit& emit, int& budget) const {
  if (budget <= 0) return;
  if (dim == state.dims.size()) {
    --budget;
    if (next != state) emit(permute_between(state, next), next);
    return;
  }
  const int64_t wanted = product(state.dims[dim]), have = product(next.dims[dim]);
  if (wanted == have) {
    arrange(state, next, dim + 1, free_atoms, emit, budget);
    return;
  }
  for (size_t i = 0; i < free_atoms.size(); ++i) {
    const int atom = free_atoms[i];
    if (wanted % (have * atoms_[static_cast<size_t>(atom)].size) != 0) continue;
    free_atoms.erase(free_atoms.begin() + static_cast<std::ptrdiff_t>(i));
    next.dims[dim].push_back(atom);
    arrange(state, next, dim, free_atoms, emit, budget);
    next.dims[dim].pop_back();
    free_atoms.insert(free_atoms.begin() + static_cast<std::ptrdiff_t>(i), atom);
  }
}

State StateSearch::permuted(const State& state, const AtomMove& move) const {
  State next = state;
  size_t taken = 0;
  for (size_t d = 0; d < state.dims.size(); ++d) {
    const bool moves = std::any_of(state.dims[d].begin(), state.dims[d].end(), [&](int atom) {
      return std::count(move.atoms.begin(), move.atoms.end(), atom) > 0;
    });
    if (!moves) continue;
    const int64_t wanted = product(state.dims[d]);
    next.dims[d].clear();
    for (int64_t have = 1; have < wanted; ++taken) {
      have *= product({move.target_atoms[taken]});
      next.dims[d].push_back(move.target_atoms[taken]);
    }
  }
  return next;
}

void StateSearch::permutes(const State& state, const Emit& emit) const {
  std::vector<int> free_atoms = unused(state);
  for (const auto& dim : state.dims) free_atoms.insert(free_atoms.end(), dim.begin(), dim.end());
  std::sort(free_atoms.begin(), free_atoms.end());
  State next = state;
  for (auto& dim : next.dims) dim.clear();
  int budget = 256;
  arrange(state, next, 0, free_atoms, emit, budget);
}

void StateSearch::neighbours(const State& state, const Emit& emit) const {
  partial_moves(state, emit);
  slices(state, emit);
  suffix_moves(state, emit);
  permutes(state, emit);
}

StateSearch::Result StateSearch::run(double cap) const {
  struct Node {
    State state;
    double cost = kInfinity;
    std::string parent;
    AtomMove move;
    bool closed = false;
  };
  std::unordered_map<std::string, Node> nodes;
  using Entry = std::tuple<double, int64_t, std::string>;  // cost + bound, number of arrival, state
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
  const std::string goal = goal_.key();
  int64_t arrivals = 0, expanded = 0;
  nodes[start_.key()] = {start_, 0, "", {}, false};
  open.emplace(bound(start_), arrivals++, start_.key());
  while (!open.empty()) {
    const std::string key = std::get<2>(open.top());
    open.pop();
    Node& node = nodes.at(key);
    if (node.closed) continue;
    node.closed = true;
    if (key == goal) {
      std::vector<AtomMove> moves;
      for (std::string at = key; at != start_.key(); at = nodes.at(at).parent)
        moves.push_back(nodes.at(at).move);
      std::reverse(moves.begin(), moves.end());
      return {Outcome::found, std::move(moves)};
    }
    if (++expanded > limits_.max_states) return {Outcome::cut_off, {}};
    const State state = node.state;
    const double cost = node.cost;
    neighbours(state, [&](AtomMove move, State next) {
      if (static_cast<double>(local_bytes(next)) > cap) return;
      const double next_cost = cost + seconds(state, move);
      std::string next_key = next.key();
      Node& target = nodes[next_key];
      if (target.closed || target.cost <= next_cost) return;
      const double estimate = next_cost + bound(next);
      target = {std::move(next), next_cost, key, std::move(move), false};
      open.emplace(estimate, arrivals++, std::move(next_key));
    });
  }
  return {Outcome::no_way, {}};
}

std::vector<AtomMove> StateSearch::greedy() const {
  std::vector<AtomMove> moves;
  AtomMove reduce{MoveKind::all_reduce, -1, -1, {}, {}};
  for (int atom : start_.partial)
    if (!goal_.partial.count(atom)) reduce.atoms.push_back(atom);
  if (!reduce.atoms.empty()) moves.push_back(reduce);
  std::vector<size_t> kept;
  for (size_t d = 0; d < start_.dims.size(); ++d) {
    const auto &now = start_.dims[d], &wanted = goal_.dims[d];
    size_t keep = 0;
    while (keep < now.size() && keep < wanted.size() && now[keep] == wanted[keep]) ++keep;
    kept.push_back(keep);
    if (keep < now.size())
      moves.push_back({MoveKind::all_gather,
                       static_cast<int>(d),
                       -1,
                       {now.begin() + static_cast<std::ptrdiff_t>(keep), now.end()},
                       {}});
  }
  for (size_t d = 0; d < goal_.dims.size(); ++d)
    if (kept[d] < goal_.dims[d].size())
      moves.push_back(
          {MoveKind::slice,
           static_cast<int>(d),
           -1,
           {goal_.dims[d].begin() + static_cast<std::ptrdiff_t>(kept[d]), goal_.dims[d].end()},
           {}});
  AtomMove make{MoveKind::replicated_to_partial, -1, -1, {}, {}};
  for (int atom : goal_.partial)
    if (!start_.partial.count(atom)) make.atoms.push_back(atom);
  if (!make.atoms.empty()) moves.push_back(make);
  return moves;
}

std::vector<AtomMove> StateSearch::join_neighbours(const std::vector<AtomMove>& moves) const {
  std::vector<AtomMove> joined;
  State state = start_, before_last = start_;
  for (const AtomMove& move : moves) {
    const bool may_join = move.kind == MoveKind::slice || move.kind == MoveKind::all_reduce ||
                          move.kind == MoveKind::reduce_scatter;
    if (may_join && !joined.empty() && joined.back().kind == move.kind &&
        joined.back().dim == move.dim) {
      AtomMove both = joined.back();
      both.atoms.insert(both.atoms.end(), move.atoms.begin(), move.atoms.end());
      if (seconds(before_last, both) <=
          seconds(before_last, joined.back()) + seconds(state, move)) {
        joined.back() = std::move(both);
        state = apply(state, move);
        continue;
      }
    }
    joined.push_back(move);
    before_last = state;
    state = move.kind == MoveKind::permute ? permuted(state, move) : apply(state, move);
  }
  return joined;
}

}  // namespace tessera
