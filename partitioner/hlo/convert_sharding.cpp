#include "partitioner/hlo/convert_sharding.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"

namespace tessera::hlo {
namespace {

using Kind = HloSharding::Kind;

// The axes of a named sharding's mesh, cut wherever the sharding cuts them.
class NamedParts {
 public:
  explicit NamedParts(const HloSharding& sharding) : sharding_(sharding) {
    for (const NamedAxis& axis : sharding.mesh.axes) cuts_.push_back({1, axis.size});
    for_each_axis([&](const NamedAxis& axis) {
      const Range range = range_of(axis);
      cuts_[range.axis].insert({range.begin, range.end});
    });
    for (const std::set<int64_t>& cuts : cuts_) {
      first_.push_back(sizes_.size());
      for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut)
        sizes_.push_back(*std::next(cut) / *cut);
    }
    is_used_.assign(sizes_.size(), false);
    for_each_axis([&](const NamedAxis& axis) {
      for (const size_t part : parts_of(axis)) is_used_[part] = true;
    });
  }

  Arrangement arrangement() const {
    Arrangement result;
    int64_t total = 1;
    for (const int64_t size : sizes_) total *= size;
    if (sharding_.mesh.device_ids)
      result.devices = *sharding_.mesh.device_ids;
    else
      result.devices.reshape = {total};
    result.devices.dims = sizes_;
    for (const bool is_used : is_used_) result.is_copies.push_back(!is_used);
    return result;
  }

  // Which dims of the arrangement an axis or part is.
  std::vector<size_t> parts_of(const NamedAxis& axis) const {
    const Range range = range_of(axis);
    std::vector<size_t> parts;
    size_t part = first_[range.axis];
    for (auto cut = cuts_[range.axis].begin(); *cut < range.end; ++cut, ++part)
      if (*cut >= range.begin) parts.push_back(part);
    return parts;
  }

 private:
  struct Range {
    size_t axis;
    int64_t begin, end;  // the major parts' product before and after
  };
  Range range_of(const NamedAxis& axis) const {
    for (size_t a = 0; a < sharding_.mesh.axes.size(); ++a)
      if (sharding_.mesh.axes[a].name == axis.name) {
        const int64_t size = axis.size == 0 ? sharding_.mesh.axes[a].size : axis.size;
        return {a, axis.pre, axis.pre * size};
      }
    throw_user_error("sharding ", print(sharding_), ": the mesh has no axis '", axis.name, "'");
  }

  template <typename Visit>
  void for_each_axis(const Visit& visit) const {
    for (const NamedDim& dim : sharding_.dims)
      for (const NamedAxis& axis : dim.axes) visit(axis);
    for (const auto* axes :
         {&sharding_.replicated_axes, &sharding_.unreduced_axes, &sharding_.manual_axes})
      for (const NamedAxis& axis : *axes) visit(axis);
  }

  const HloSharding& sharding_;
  std::vector<std::set<int64_t>> cuts_;  // by axis
  std::vector<size_t> first_;            // by axis: its first part
  std::vector<int64_t> sizes_;           // of all parts
  std::vector<bool> is_used_;
};

Arrangement tile_arrangement(const HloSharding& sharding) {
  Arrangement result{sharding.devices, std::vector<bool>(sharding.devices.dims.size(), false)};
  for (size_t i = 0; i < sharding.last_tile_dims.size(); ++i)
    result.is_copies[static_cast<size_t>(sharding.tile_rank()) + i] =
        sharding.last_tile_dims[i] == SubgroupKind::replicated;
  return result;
}

AxisList all_axes(const Mesh& mesh) {
  AxisList axes;
  for (int a = 0; a < mesh.rank(); ++a) axes.push_back(mesh.axis(a));
  return canonical(axes);
}

class Converter {
 public:
  Converter(const HloSharding& sharding, const MeshPtr& mesh, int rank)
      : hlo_(sharding), mesh_(mesh), rank_(rank) {
    result_.sharding = Sharding(mesh, rank);
  }

  ConvertedSharding convert(const std::vector<int64_t>& unspecified) {
    convert_kind();
    for (const int64_t dim : unspecified) {
      if (dim < 0 || dim >= rank_)
        throw_user_error("unspecified dim ", dim, " of a tensor of rank ", rank_);
      result_.sharding.dims[static_cast<size_t>(dim)].open = true;
    }
    // An order of its own says nothing of what lies everywhere.
    if (result_.sharding.used_axes().empty() && result_.manual.empty() &&
        result_.sharding.replicated.empty())
      result_.sharding.mesh = mesh_;
    return std::move(result_);
  }

 private:
  void convert_kind() {
    switch (hlo_.kind) {
      case Kind::replicated:
        return;
      case Kind::manual:
        result_.is_manual = true;
        result_.manual = all_axes(*mesh_);
        return;
      case Kind::unknown:
        result_.is_unknown = true;
        for (DimSharding& dim : result_.sharding.dims) dim.open = true;
        return;
      case Kind::unreduced:
        result_.sharding.partial = all_axes(*mesh_);
        return;
      case Kind::maximal:
        result_.note = cat("sharding ", print(hlo_), " is taken as replicated");
        return;
      case Kind::tiled:
        return convert_tiles();
      case Kind::named:
        return convert_named();
      case Kind::tuple:
        break;
    }
    if (hlo_.elements.size() != 1)
      throw_user_error("sharding ", print(hlo_), " is one of a tuple of ", hlo_.elements.size(),
                       ", but the value is an array");
    result_ = convert_sharding(hlo_.elements.front(), mesh_, rank_);
  }

  void check_rank(int dims) const {
    if (dims != rank_)
      throw_user_error("sharding ", print(hlo_), " is for rank ", dims,
                       ", but the tensor has rank ", rank_);
  }

  PlacedDevices place(const Arrangement& arrangement) const {
    try {
      return place_devices(arrangement, mesh_);
    } catch (const UserError& error) {
      throw_user_error("sharding ", print(hlo_), ": ", error.what());
    }
  }

  void convert_tiles() {
    check_rank(hlo_.tile_rank());
    const PlacedDevices placed = place(tile_arrangement(hlo_));
    Sharding& sharding = result_.sharding;
    sharding.mesh = placed.mesh;
    for (int d = 0; d < rank_; ++d)
      sharding.dims[static_cast<size_t>(d)].axes = placed.axes[static_cast<size_t>(d)];
    for (size_t i = 0; i < hlo_.last_tile_dims.size(); ++i) {
      const AxisList& axes = placed.axes[static_cast<size_t>(rank_) + i];
      AxisList& target =
          hlo_.last_tile_dims[i] == SubgroupKind::manual ? result_.manual : sharding.partial;
      target = concat(target, axes);
    }
  }

  void convert_named() {
    if (!hlo_.dims.empty()) check_rank(static_cast<int>(hlo_.dims.size()));
    const NamedParts parts(hlo_);
    const PlacedDevices placed = place(parts.arrangement());
    auto axes_of_list = [&](const std::vector<NamedAxis>& names) {
      AxisList axes;
      for (const NamedAxis& name : names)
        for (const size_t part : parts.parts_of(name)) axes = concat(axes, placed.axes[part]);
      return axes;
    };
    Sharding& sharding = result_.sharding;
    sharding.mesh = placed.mesh;
    for (size_t d = 0; d < hlo_.dims.size(); ++d)
      sharding.dims[d] = {axes_of_list(hlo_.dims[d].axes), hlo_.dims[d].open,
                          hlo_.dims[d].priority};
    sharding.replicated = axes_of_list(hlo_.replicated_axes);
    sharding.partial = axes_of_list(hlo_.unreduced_axes);
    if (!hlo_.unreduced_kind.empty())
      sharding.partial_kind = hlo_.unreduced_kind == "max" ? ReduceKind::max : ReduceKind::min;
    result_.manual = axes_of_list(hlo_.manual_axes);
  }

  const HloSharding& hlo_;
  const MeshPtr& mesh_;
  int rank_;
  ConvertedSharding result_;
};

}  // namespace

Arrangement arrangement_of(const HloSharding& sharding) {
  TESSERA_CHECK(sharding.kind == Kind::tiled || sharding.kind == Kind::named);
  return sharding.kind == Kind::tiled ? tile_arrangement(sharding)
                                      : NamedParts(sharding).arrangement();
}

ConvertedSharding convert_sharding(const HloSharding& sharding, const MeshPtr& mesh, int rank,
                                   const std::vector<int64_t>& unspecified) {
  return Converter(sharding, mesh, rank).convert(unspecified);
}

}  // namespace tessera::hlo
