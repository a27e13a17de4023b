// The search against exhaustive search over all states, on meshes of up to 8 devices and tensors of
// rank up to 3; against the greedy plan on larger ones.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "core/base/error.h"
#include "partitioner/reshard_search.h"
#include "partitioner/reshard_states.h"

namespace tessera {
namespace {

// A lying of whole axes, written without the search's types: per dim the axes, major to minor.
struct Lying {
  std::vector<std::vector<int>> dims;
  std::set<int> partial;
  auto operator<=>(const Lying&) const = default;
};

class Exhaustive {
 public:
  Exhaustive(MeshPtr mesh, MachineModel machine, TensorType type)
      : mesh_(std::move(mesh)), machine_(std::move(machine)), type_(std::move(type)) {
    Lying lying{std::vector<std::vector<int>>(static_cast<size_t>(type_.rank())), {}};
    enumerate(lying, 0);
  }

  const std::vector<Lying>& lyings() const { return lyings_; }

  Sharding sharding(const Lying& lying) const {
    Sharding sharding(mesh_, type_.rank());
    for (size_t d = 0; d < lying.dims.size(); ++d)
      sharding.dims[d].axes = axes(lying.dims[d]);
    for (int a : lying.partial) sharding.partial.push_back(mesh_->axis(a));
    return sharding;
  }

  int64_t local_bytes(const Lying& lying) const {
    int64_t parts = 1;
    for (const auto& dim : lying.dims) parts *= size(dim);
    return type_.bytes() / parts;
  }

  // Seconds to every lying that can be reached, with shards of at most `cap` bytes on the way
  // (Dijkstra). Values are never partial over new axes here, see partial_goal().
  std::map<Lying, double> seconds_from(const Lying& start, double cap) const {
    std::map<Lying, double> found = {{start, 0}}, done;
    while (!found.empty()) {
      auto nearest = found.begin();
      for (auto at = found.begin(); at != found.end(); ++at)
        if (at->second < nearest->second) nearest = at;
      const auto [lying, seconds] = *nearest;
      found.erase(nearest);
      done[lying] = seconds;
      neighbours(lying, [&](MoveKind kind, const std::vector<int>& moved, const Lying& next) {
        if (done.count(next) || static_cast<double>(local_bytes(next)) > cap) return;
        const double then =
            seconds + move_seconds(kind, local_bytes(lying), axes(moved), *mesh_, machine_);
        const auto known = found.find(next);
        if (known == found.end() || then < known->second) found[next] = then;
      });
    }
    return done;
  }

 private:
  AxisList axes(const std::vector<int>& numbers) const {
    AxisList list;
    for (int a : numbers) list.push_back(mesh_->axis(a));
    return list;
  }
  int64_t size(const std::vector<int>& numbers) const { return size_of(axes(numbers)); }
  bool fits(size_t dim, const std::vector<int>& numbers) const {
    return type_.shape[static_cast<int>(dim)] % size(numbers) == 0;
  }

  // Puts axis `a` everywhere it may be, then the next one; every order arises.
  void enumerate(Lying& lying, int a) {
    if (a == mesh_->rank()) {
      for (size_t d = 0; d < lying.dims.size(); ++d)
        if (!fits(d, lying.dims[d])) return;
      lyings_.push_back(lying);
      return;
    }
    enumerate(lying, a + 1);
    lying.partial.insert(a);
    enumerate(lying, a + 1);
    lying.partial.erase(a);
    for (auto& dim : lying.dims)
      for (size_t at = 0; at <= dim.size(); ++at) {
        dim.insert(dim.begin() + static_cast<std::ptrdiff_t>(at), a);
        enumerate(lying, a + 1);
        dim.erase(dim.begin() + static_cast<std::ptrdiff_t>(at));
      }
  }

  // Every ordered list of distinct members of `from`.
  template <typename Body>
  static void lists(const std::vector<int>& from, std::vector<int>& list, const Body& body) {
    for (int a : from) {
      if (std::count(list.begin(), list.end(), a)) continue;
      list.push_back(a);
      body(list);
      lists(from, list, body);
      list.pop_back();
    }
  }

  template <typename Body>
  void neighbours(const Lying& at, const Body& body) const {
    std::vector<int> unused, partial(at.partial.begin(), at.partial.end()), list;
    for (int a = 0; a < mesh_->rank(); ++a) {
      bool is_used = at.partial.count(a) > 0;
      for (const auto& dim : at.dims) is_used = is_used || std::count(dim.begin(), dim.end(), a);
      if (!is_used) unused.push_back(a);
    }
    auto appended = [&](Lying next, size_t dim, const std::vector<int>& more) {
      next.dims[dim].insert(next.dims[dim].end(), more.begin(), more.end());
      return next;
    };
    auto resolved = [&](Lying next, const std::vector<int>& axes) {
      for (int a : axes) next.partial.erase(a);
      return next;
    };
    lists(partial, list, [&](const auto& some) {
      body(MoveKind::all_reduce, some, resolved(at, some));
      for (size_t d = 0; d < at.dims.size(); ++d)
        if (const Lying next = appended(resolved(at, some), d, some); fits(d, next.dims[d]))
          body(MoveKind::reduce_scatter, some, next);
    });
    for (size_t d = 0; d < at.dims.size(); ++d) {
      lists(unused, list, [&](const auto& some) {
        if (const Lying next = appended(at, d, some); fits(d, next.dims[d]))
          body(MoveKind::slice, some, next);
      });
      for (size_t keep = 0; keep < at.dims[d].size(); ++keep) {
        Lying cut = at;
        const std::vector<int> suffix(at.dims[d].begin() + static_cast<std::ptrdiff_t>(keep),
                                      at.dims[d].end());
        cut.dims[d].resize(keep);
        body(MoveKind::all_gather, suffix, cut);
        for (size_t to = 0; to < at.dims.size(); ++to)
          if (const Lying next = appended(cut, to, suffix); to != d && fits(to, next.dims[to]))
            body(MoveKind::all_to_all, suffix, next);
      }
    }
    // A permute: any lying of the same local shape and the same partial axes; it moves over the
    // axes of the dims that change.
    for (const Lying& next : lyings_) {
      if (next == at || next.partial != at.partial) continue;
      std::set<int> moved;
      bool is_same_shape = true;
      for (size_t d = 0; d < at.dims.size(); ++d) {
        is_same_shape = is_same_shape && size(at.dims[d]) == size(next.dims[d]);
        if (at.dims[d] == next.dims[d]) continue;
        moved.insert(at.dims[d].begin(), at.dims[d].end());
        moved.insert(next.dims[d].begin(), next.dims[d].end());
      }
      if (is_same_shape)
        body(MoveKind::permute, std::vector<int>(moved.begin(), moved.end()), next);
    }
  }

  MeshPtr mesh_;
  MachineModel machine_;
  TensorType type_;
  std::vector<Lying> lyings_;
};

struct Setting {
  const char* mesh;
  Shape shape;
};
// Large, so that bytes decide; small, so that latency does; dims that hold few axes.
const Setting kSettings[] = {
    {"x=2", {64}},          {"x=8", {4096, 8}},       {"x=7", {14, 7, 3}},
    {"x=2,y=2", {4, 2}},    {"x=2,y=2", {512, 512}},  {"x=2,y=4", {64, 64, 64}},
    {"x=4,y=2", {8, 4}},    {"x=3,y=2", {6, 12}},     {"x=2,y=2,z=2", {8, 2}},
    {"x=2,y=2,z=2", {1024, 1024}}, {"x=2,y=2,z=2", {2, 8, 4}},
};

// Compares one pair in `stride`.
void compare(const Setting& setting, const char* profile, int devices_per_host, size_t stride) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh(setting.mesh));
  MachineModel machine = machine_model(profile);
  machine.devices_per_host = devices_per_host;
  const TensorType type{DType::f32, setting.shape};
  const Exhaustive exhaustive(mesh, machine, type);
  ReshardPlanner planner(mesh, machine, {.memory_floor_bytes = 0});
  size_t pair = 0;
  for (const Lying& from : exhaustive.lyings()) {
    std::map<double, std::map<Lying, double>> by_cap;
    for (const Lying& to : exhaustive.lyings()) {
      // A plan makes nothing partial but what the goal is partial over: another test's matter.
      if (!std::includes(from.partial.begin(), from.partial.end(), to.partial.begin(),
                         to.partial.end()))
        continue;
      if (pair++ % stride != 0) continue;
      const double cap =
          2.0 * static_cast<double>(
                    std::max(exhaustive.local_bytes(from), exhaustive.local_bytes(to)));
      auto found = by_cap.find(cap);
      if (found == by_cap.end()) found = by_cap.emplace(cap, exhaustive.seconds_from(from, cap)).first;
      const int64_t above = planner.over_memory();
      const Sharding source = exhaustive.sharding(from), target = exhaustive.sharding(to);
      const ReshardPlan& plan = planner.plan(source, target, type);
      const auto expected = found->second.find(to);
      if (expected == found->second.end()) {
        EXPECT_EQ(planner.over_memory(), above + 1) << source << " -> " << target;
        continue;
      }
      EXPECT_NEAR(plan.seconds, expected->second, 1e-9 * expected->second + 1e-15)
          << setting.mesh << " " << type << " " << source << " -> " << target;
      for (const ReshardMove& move : plan.moves)
        EXPECT_LE(static_cast<double>(type.bytes()) /
                      static_cast<double>(size_of(move.result.without_partial().used_axes())),
                  cap);
    }
  }
  EXPECT_EQ(planner.fallbacks(), 0);
}

TEST(ReshardSearch, CostsWhatExhaustiveSearchFinds) {
  for (const Setting& setting : kSettings) compare(setting, "h100-nvlink-ib", 2, 53);
}

TEST(ReshardSearchLong, CostsWhatExhaustiveSearchFindsForAllPairs) {
  for (const Setting& setting : kSettings) {
    compare(setting, "cpu-shm", 64, 1);
    compare(setting, "h100-nvlink-ib", 2, 1);
  }
}

// On large meshes: never dearer than reduce, gather, slice, where that keeps to the memory cap; and
// no shard on the way is more than twice the larger of source and target, or it is counted.
TEST(ReshardSearch, IsAtMostTheGreedyBound) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("pod=2,data=8,model=4,x=4"));
  const MachineModel machine = machine_model("h100-nvlink-ib");
  const TensorType type{DType::bf16, {512, 1024, 256}};
  ReshardPlanner planner(mesh, machine, {.memory_floor_bytes = 0});
  std::mt19937_64 random(7);
  auto sharding = [&] {
    Sharding s(mesh, 3);
    std::vector<int> order = {0, 1, 2, 3};
    std::shuffle(order.begin(), order.end(), random);
    for (int a : order) {
      const auto where = random() % 5;
      if (where < 3)
        s.dims[where].axes.push_back(mesh->axis(a));
      else if (where == 3)
        s.partial.push_back(mesh->axis(a));
    }
    for (DimSharding& dim : s.dims) dim.axes = canonical(dim.axes);
    std::sort(s.partial.begin(), s.partial.end());
    return s;
  };
  for (int i = 0; i < 200; ++i) {
    const Sharding from = sharding();
    Sharding to = sharding();
    to.partial.clear();
    const int64_t above = planner.over_memory();
    const ReshardPlan& plan = planner.plan(from, to, type);
    const StateSearch search(from, to, type, *mesh, machine, {});
    const double cap = 2.0 * static_cast<double>(std::max(search.local_bytes(search.start()),
                                                          search.local_bytes(search.goal())));
    double greedy = 0;
    bool is_within = true;
    State state = search.start();
    for (const AtomMove& move : search.greedy()) {
      greedy += search.seconds(state, move);
      state = StateSearch::apply(state, move);
      is_within = is_within && static_cast<double>(search.local_bytes(state)) <= cap;
    }
    if (is_within) {
      EXPECT_LE(plan.seconds, greedy * (1 + 1e-9)) << from << " -> " << to;
    }
    if (planner.over_memory() > above) continue;
    for (const ReshardMove& move : plan.moves)
      EXPECT_LE(static_cast<double>(type.bytes()) /
                    static_cast<double>(size_of(move.result.without_partial().used_axes())),
                cap)
          << from << " -> " << to;
  }
  EXPECT_EQ(planner.fallbacks(), 0);
}

}  // namespace
}  // namespace tessera
