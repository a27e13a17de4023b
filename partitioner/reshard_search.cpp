#include "partitioner/reshard_search.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <queue>
#include <set>

#include "core/base/error.h"

namespace tessera {

std::string_view name_of(MoveKind kind) {
  static constexpr std::array<std::string_view, 7> kNames = {
      "all_slice",  "all_gather",     "all_to_all",           "collective_permute",
      "all_reduce", "reduce_scatter", "replicated_to_partial"};
  return kNames[static_cast<size_t>(kind)];
}

std::string print_move(const ReshardMove& move) {
  const Mesh& mesh = *move.result.mesh;
  std::string text = cat(name_of(move.kind), "{");
  if (move.kind == MoveKind::all_to_all)
    text += cat("split=", move.dim, ", concat=", move.concat_dim, ", ");
  else if (move.dim >= 0)
    text += cat(move.dim, ", ");
  text += print_axes(mesh, move.axes);
  if (!move.target_axes.empty()) text += cat(" -> ", print_axes(mesh, move.target_axes));
  return text + "}";
}

double wire_bytes(MoveKind kind, int64_t local_bytes, int64_t group_size) {
  const double bytes = static_cast<double>(local_bytes), n = static_cast<double>(group_size);
  switch (kind) {
    case MoveKind::all_gather:
      return bytes * (n - 1);
    case MoveKind::all_to_all:
      return bytes * (n - 1) / n;
    case MoveKind::permute:
      return bytes;
    case MoveKind::all_reduce:
      return 2 * bytes * (n - 1) / n;
    case MoveKind::reduce_scatter:
      return bytes * (n - 1) / n;
    case MoveKind::slice:
    case MoveKind::replicated_to_partial:
      return 0;
  }
  return 0;
}

double move_seconds(MoveKind kind, int64_t local_bytes, const AxisList& axes, const Mesh& mesh,
                    const MachineModel& machine) {
  // A slice writes what it keeps; making a value partial costs coordinate 0 nothing.
  if (kind == MoveKind::replicated_to_partial) return machine.kernel_latency * 0.1;
  if (kind == MoveKind::slice)
    return machine.kernel_latency * 0.1 +
           static_cast<double>(local_bytes / size_of(axes)) / machine.memory_bandwidth;
  const Link link = machine.link(mesh, axes);
  return link.latency + wire_bytes(kind, local_bytes, size_of(axes)) / link.bandwidth;
}

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

class Search {
 public:
  Search(const Sharding& from, const Sharding& to, const TensorType& type, const Mesh& mesh,
         const MachineModel& machine, const ReshardPlanner::Options& options)
      : type_(type), mesh_(mesh), machine_(machine), options_(options) {
    collect_atoms(from, to);
    start_ = state_of(from);
    goal_ = state_of(to);
  }

  // The moves, or nothing when the search was cut off.
  std::optional<std::vector<AtomMove>> run();
  // all_reduce, gather down to the common prefix, slice: always possible.
  std::vector<AtomMove> greedy() const;

  State start() const { return start_; }
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
  void collect_atoms(const Sharding& from, const Sharding& to);
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
  void suffix_moves(const State& state, const Emit& emit) const;
  void permutes(const State& state, const Emit& emit) const;
  void arrange(const State& state, State& next, size_t dim, std::vector<int>& free_atoms,
               const Emit& emit, int& budget) const;
  static AtomMove permute_between(const State& before, const State& after);

  const TensorType& type_;
  const Mesh& mesh_;
  const MachineModel& machine_;
  const ReshardPlanner::Options& options_;
  std::vector<AxisRef> atoms_;
  State start_, goal_;
};

// Cuts every axis at the borders of all its parts. Borders that do not divide one another (parts of
// 2 and 3 of an axis of 6) are impossible by Sharding::verify's notion of a sub-axis on both sides.
void Search::collect_atoms(const Sharding& from, const Sharding& to) {
  std::map<int, std::set<int64_t>> borders;
  for (const Sharding* sharding : {&from, &to})
    for (const AxisRef& ref : sharding->used_axes()) {
      borders[ref.axis].insert(ref.pre);
      borders[ref.axis].insert(ref.pre * ref.size);
    }
  for (const auto& [axis, cuts] : borders)
    for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut) {
      TESSERA_CHECK(*std::next(cut) % *cut == 0, "parts of mesh axis ", mesh_.axes()[axis].name,
                    " cross each other: ", from, " and ", to);
      atoms_.push_back({axis, *cut, *std::next(cut) / *cut});
    }
}

std::vector<int> Search::atoms_of(const AxisList& axes) const {
  std::vector<int> result;
  for (const AxisRef& ref : axes)
    for (size_t atom = 0; atom < atoms_.size(); ++atom)
      if (overlaps(ref, atoms_[atom])) result.push_back(static_cast<int>(atom));
  return result;
}

State Search::state_of(const Sharding& sharding) const {
  State state;
  for (const DimSharding& dim : sharding.dims) state.dims.push_back(atoms_of(dim.axes));
  for (int atom : atoms_of(sharding.partial)) state.partial.insert(atom);
  return state;
}

std::vector<int> Search::unused(const State& state) const {
  std::vector<bool> used(atoms_.size(), false);
  for (const auto& dim : state.dims)
    for (int atom : dim) used[static_cast<size_t>(atom)] = true;
  for (int atom : state.partial) used[static_cast<size_t>(atom)] = true;
  std::vector<int> result;
  for (size_t atom = 0; atom < atoms_.size(); ++atom)
    if (!used[atom]) result.push_back(static_cast<int>(atom));
  return result;
}

bool Search::needs_communication(const State& state) const {
  for (int atom : state.partial)
    if (!goal_.partial.count(atom)) return true;
  for (size_t d = 0; d < state.dims.size(); ++d) {
    const auto &now = state.dims[d], &wanted = goal_.dims[d];
    if (now.size() > wanted.size() || !std::equal(now.begin(), now.end(), wanted.begin()))
      return true;
  }
  return false;
}

double Search::bound(const State& state) const {
  if (!needs_communication(state)) return 0;
  double latency = kInfinity, bandwidth = 0;
  for (const AxisRef& atom : atoms_) {
    const Link link = machine_.link(mesh_, {atom});
    latency = std::min(latency, link.latency);
    bandwidth = std::max(bandwidth, link.bandwidth);
  }
  return latency + 0.5 * static_cast<double>(local_bytes(goal_)) / bandwidth;
}

State Search::apply(State state, const AtomMove& move, const State* permuted) {
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

void Search::partial_moves(const State& state, const Emit& emit) const {
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
  auto scatter = [&](int dim, std::vector<int> atoms) {
    if (!fits(dim, state.dims[static_cast<size_t>(dim)], atoms)) return;
    AtomMove move{MoveKind::reduce_scatter, dim, -1, std::move(atoms), {}};
    emit(move, apply(state, move));
  };
  for (size_t d = 0; d < state.dims.size(); ++d) {
    for (int atom : to_resolve) scatter(static_cast<int>(d), {atom});
    // What the goal wants next on this dim, as one move.
    const auto &now = state.dims[d], &wanted = goal_.dims[d];
    if (now.size() >= wanted.size() || !std::equal(now.begin(), now.end(), wanted.begin()))
      continue;
    std::vector<int> run;
    for (size_t i = now.size(); i < wanted.size() && state.partial.count(wanted[i]); ++i)
      run.push_back(wanted[i]);
    if (run.size() > 1) scatter(static_cast<int>(d), run);
  }
}

void Search::suffix_moves(const State& state, const Emit& emit) const {
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

AtomMove Search::permute_between(const State& before, const State& after) {
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
void Search::arrange(const State& state, State& next, size_t dim, std::vector<int>& free_atoms,
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

void Search::permutes(const State& state, const Emit& emit) const {
  std::vector<int> free_atoms = unused(state);
  for (const auto& dim : state.dims) free_atoms.insert(free_atoms.end(), dim.begin(), dim.end());
  std::sort(free_atoms.begin(), free_atoms.end());
  State next = state;
  for (auto& dim : next.dims) dim.clear();
  int budget = 256;
  arrange(state, next, 0, free_atoms, emit, budget);
}

void Search::neighbours(const State& state, const Emit& emit) const {
  partial_moves(state, emit);
  for (size_t d = 0; d < state.dims.size(); ++d)
    for (int atom : unused(state)) {
      if (goal_.partial.count(atom) || !fits(static_cast<int>(d), state.dims[d], {atom})) continue;
      AtomMove move{MoveKind::slice, static_cast<int>(d), -1, {atom}, {}};
      emit(move, apply(state, move));
    }
  suffix_moves(state, emit);
  permutes(state, emit);
}

std::optional<std::vector<AtomMove>> Search::run() {
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
  const double cap = std::max({options_.memory_cap_bytes, static_cast<double>(local_bytes(start_)),
                               static_cast<double>(local_bytes(goal_))});
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
      return moves;
    }
    if (++expanded > options_.max_states) return std::nullopt;
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
  return std::nullopt;
}

std::vector<AtomMove> Search::greedy() const {
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

// slice{0, x}, slice{0, y} is slice{0, x,y}; the same for reductions that follow one another.
std::vector<AtomMove> join_neighbours(std::vector<AtomMove> moves) {
  std::vector<AtomMove> joined;
  for (AtomMove& move : moves) {
    const bool may_join = move.kind == MoveKind::slice || move.kind == MoveKind::all_reduce ||
                          move.kind == MoveKind::reduce_scatter;
    if (may_join && !joined.empty() && joined.back().kind == move.kind &&
        joined.back().dim == move.dim)
      joined.back().atoms.insert(joined.back().atoms.end(), move.atoms.begin(), move.atoms.end());
    else
      joined.push_back(std::move(move));
  }
  return joined;
}

Sharding apply_move(Sharding at, const ReshardMove& move, const Sharding& to) {
  auto dim = [&](int d) -> AxisList& { return at.dims[static_cast<size_t>(d)].axes; };
  auto cut = [&](int d) {
    // The suffix may end inside an axis of the list, so cut at common borders.
    AxisList whole = dim(d), suffix = move.axes;
    split_to_common(whole, suffix);
    whole.resize(whole.size() - suffix.size());
    dim(d) = canonical(whole);
  };
  switch (move.kind) {
    case MoveKind::slice:
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::all_gather:
      cut(move.dim);
      break;
    case MoveKind::all_to_all:
      cut(move.concat_dim);
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::all_reduce:
      at.partial = without(at.partial, move.axes);
      break;
    case MoveKind::reduce_scatter:
      at.partial = without(at.partial, move.axes);
      dim(move.dim) = concat(dim(move.dim), move.axes);
      break;
    case MoveKind::replicated_to_partial:
      if (at.partial.empty()) at.partial_kind = to.partial_kind;
      at.partial = concat(at.partial, move.axes);
      std::sort(at.partial.begin(), at.partial.end());
      at.partial = canonical(at.partial);
      break;
    case MoveKind::permute:
      break;  // the caller knows the dims
  }
  return at;
}

}  // namespace

ReshardPlan ReshardPlanner::search(const Sharding& from, const Sharding& to,
                                   const TensorType& type) {
  if (from.is_partial() && to.is_partial() && from.partial_kind != to.partial_kind) {
    // Combiners do not mix: resolve the first one, then make the second.
    ReshardPlan first = plan(from, from.without_partial(), type);
    const ReshardPlan second = plan(from.without_partial(), to, type);
    first.moves.insert(first.moves.end(), second.moves.begin(), second.moves.end());
    first.seconds += second.seconds;
    first.wire_bytes += second.wire_bytes;
    return first;
  }
  ++searches_;
  Search search(from, to, type, *mesh_, machine_, options_);
  ReshardPlan plan;
  std::optional<std::vector<AtomMove>> found = search.run();
  plan.is_fallback = !found.has_value();
  fallbacks_ += plan.is_fallback;
  const std::vector<AtomMove> raw = found ? *found : search.greedy();
  Sharding at = from.closed();
  State state = search.start();
  for (const AtomMove& move : join_neighbours(raw)) {
    ReshardMove step{move.kind,
                     move.dim,
                     move.concat_dim,
                     search.axes_of(move.atoms),
                     search.axes_of(move.target_atoms),
                     {}};
    plan.seconds += search.seconds(state, move);
    plan.wire_bytes += wire_bytes(move.kind, search.local_bytes(state), size_of(step.axes));
    if (move.kind == MoveKind::permute) {
      // Atom i of `atoms` becomes the place of atom i of `target_atoms`, dim by dim by size.
      size_t taken = 0;
      State next = state;
      for (size_t d = 0; d < state.dims.size(); ++d) {
        const bool moves = std::any_of(state.dims[d].begin(), state.dims[d].end(), [&](int atom) {
          return std::count(move.atoms.begin(), move.atoms.end(), atom) > 0;
        });
        if (!moves) continue;
        int64_t wanted = size_of(search.axes_of(state.dims[d])), have = 1;
        next.dims[d].clear();
        while (have < wanted) {
          have *= size_of(search.axes_of({move.target_atoms[taken]}));
          next.dims[d].push_back(move.target_atoms[taken++]);
        }
        at.dims[d].axes = search.axes_of(next.dims[d]);
      }
      state = next;
    } else {
      state = Search::apply(state, move);
      at = apply_move(at, step, to);
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
  std::string key = cat(type, " ", source, " > ", target);
  if (const auto known = memo_.find(key); known != memo_.end()) return known->second;
  return memo_.emplace(std::move(key), search(source, target, type)).first->second;
}

}  // namespace tessera
