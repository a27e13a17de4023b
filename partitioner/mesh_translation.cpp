#include "partitioner/mesh_translation.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/base/error.h"

namespace tessera {
namespace {

// By axis, after how many parts it is cut.
using Cuts = std::vector<std::set<int64_t>>;

Cuts cuts_of(const Mesh& mesh, std::span<const Sharding> used) {
  Cuts cuts;
  for (const MeshAxis& axis : mesh.axes()) cuts.push_back({1, axis.size});
  auto add = [&](const AxisList& axes) {
    for (const AxisRef& ref : axes)
      cuts[static_cast<size_t>(ref.axis)].insert({ref.pre, ref.pre * ref.size});
  };
  for (const Sharding& sharding : used) {
    for (const DimSharding& dim : sharding.dims) add(dim.axes);
    add(sharding.partial);
    add(sharding.replicated);
  }
  return cuts;
}

std::vector<AxisRef> atoms_of(const Mesh& mesh, const Cuts& cuts) {
  std::vector<AxisRef> atoms;
  for (int a = 0; a < mesh.rank(); ++a) {
    int64_t pre = 1;
    for (int64_t end : cuts[static_cast<size_t>(a)]) {
      if (end % pre != 0)
        throw_config_error("shardings over ", mesh, " cut its axis \"",
                           mesh.axes()[static_cast<size_t>(a)].name, "\" after ", pre,
                           " parts and after ", end, ", of which one must divide the other");
      for (int64_t prime = 2; pre < end; ++prime)
        for (; end / pre % prime == 0; pre *= prime) atoms.push_back({a, pre, prime});
    }
  }
  return atoms;
}

bool is_within(AxisRef atom, AxisRef ref) {
  return atom.axis == ref.axis && atom.pre >= ref.pre &&
         atom.pre * atom.size <= ref.pre * ref.size;
}

// On how many devices the two coordinates are the same.
int64_t agreement(const Mesh& other, AxisRef a, const Mesh& home, AxisRef b) {
  int64_t count = 0;
  for (int64_t device = 0; device < home.devices(); ++device)
    count += other.coordinate(device, a) == home.coordinate(device, b);
  return count;
}

}  // namespace

MeshTranslation::MeshTranslation(const Mesh& other, MeshPtr home, std::span<const Sharding> used)
    : home_(std::move(home)) {
  if (other.devices() != home_->devices())
    throw_config_error("a sharding is for mesh ", other, " of ", other.devices(),
                       " devices, but the program is partitioned for ", *home_, " of ",
                       home_->devices());
  struct Pair {
    bool is_same;   // all devices stand alike along both, and along the rest of the other's axis
    bool is_named;  // the same part of an axis of the same name and size
    int64_t agreement;
    AxisRef other, home;
  };
  std::vector<Pair> pairs;
  for (AxisRef a : atoms_of(other, cuts_of(other, used)))
    for (AxisRef b : atoms_of(*home_, cuts_of(*home_, {}))) {
      if (a.size != b.size) continue;
      const int64_t alike = agreement(other, a, *home_, b);
      const bool is_named = a.pre == b.pre && other.axes()[static_cast<size_t>(a.axis)] ==
                                                  home_->axes()[static_cast<size_t>(b.axis)];
      pairs.push_back({alike == home_->devices(), is_named, alike, a, b});
    }
  // An axis that agrees only in part moves as a whole: its parts need not be turned round.
  std::map<int, int64_t> same;
  for (const Pair& pair : pairs)
    if (pair.is_same) same.try_emplace(pair.other.axis, 1).first->second *= pair.other.size;
  for (Pair& pair : pairs)
    pair.is_same = pair.is_same && same[pair.other.axis] ==
                                       other.axes()[static_cast<size_t>(pair.other.axis)].size;
  auto rank = [](const Pair& pair) {
    return std::tuple(pair.is_same, pair.is_named, pair.agreement);
  };
  std::stable_sort(pairs.begin(), pairs.end(),
                   [&](const Pair& x, const Pair& y) { return rank(x) > rank(y); });
  std::set<AxisRef> taken;
  for (const Pair& pair : pairs)
    if (!atoms_.contains(pair.other) && taken.insert(pair.home).second)
      atoms_.emplace(pair.other, pair.home);
}

AxisList MeshTranslation::translate(const AxisList& axes) const {
  AxisList translated;
  for (const AxisRef& ref : axes)
    for (const auto& [atom, home] : atoms_)  // in the order of axes, major parts first
      if (is_within(atom, ref)) translated.push_back(home);
  return canonical(translated);
}

Sharding MeshTranslation::translate(const Sharding& sharding) const {
  Sharding result = sharding;
  result.mesh = home_;
  for (DimSharding& dim : result.dims) dim.axes = translate(dim.axes);
  result.replicated = translate(sharding.replicated);
  result.partial = translate(sharding.partial);
  return result;
}

Ints relabelling(const Sharding& from, const Sharding& to, const Mesh& home) {
  const AxisList all = axes_of(home), held_by = from.used_axes(), wanted_by = to.used_axes();
  const auto tiles = static_cast<size_t>(size_of(held_by));
  Ints sources(static_cast<size_t>(home.devices()), -1);
  // By tile, who holds it and shall not, and who shall and does not.
  std::vector<std::vector<int64_t>> holders(tiles), takers(tiles);
  bool any = false;
  for (int64_t device = 0; device < home.devices(); ++device) {
    const auto has = static_cast<size_t>(from.mesh->coordinate(device, held_by)),
               wants = static_cast<size_t>(to.mesh->coordinate(device, wanted_by));
    const int64_t place = home.coordinate(device, all);
    if (has == wants) {
      sources[static_cast<size_t>(place)] = place;
    } else {
      holders[has].push_back(place);
      takers[wants].push_back(place);
      any = true;
    }
  }
  if (!any) return {};
  for (size_t tile = 0; tile < tiles; ++tile)
    for (size_t i = 0; i < takers[tile].size(); ++i)
      sources[static_cast<size_t>(takers[tile][i])] = holders[tile].at(i);
  return sources;
}

AxisList axes_of(const Mesh& mesh) {
  AxisList axes;
  for (int a = 0; a < mesh.rank(); ++a) axes.push_back(mesh.axis(a));
  return canonical(axes);
}

}  // namespace tessera
