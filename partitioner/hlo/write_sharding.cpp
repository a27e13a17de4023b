// Our shardings in HLO's notations.
#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/device_digits.h"

namespace tessera::hlo {
namespace {

AxisList rest_of(const Sharding& sharding) {
  AxisList all;
  for (int a = 0; a < sharding.mesh->rank(); ++a) all.push_back(sharding.mesh->axis(a));
  return without(canonical(all), sharding.used_axes());
}

// Positions counted in `digits`, as devices.
DeviceList arrange_devices(std::vector<int64_t> dims, const Digits& digits, const Mesh& mesh) {
  DeviceList positions = arrange(std::move(dims), digits);
  if (mesh.device_order().empty()) return positions;
  std::vector<int64_t> list = positions.expand();
  for (int64_t& entry : list) entry = mesh.device_order()[static_cast<size_t>(entry)];
  return arrange(std::move(positions.dims), std::move(list));
}

std::vector<NamedAxis> names_of(const AxisList& axes, const Mesh& mesh) {
  std::vector<NamedAxis> names;
  for (const AxisRef& ref : axes) {
    const std::string& name = mesh.axes()[static_cast<size_t>(ref.axis)].name;
    names.push_back(mesh.is_whole(ref) ? NamedAxis{name} : NamedAxis{name, ref.pre, ref.size});
  }
  return names;
}

NamedMesh named_mesh(const Mesh& mesh) {
  NamedMesh named;
  named.name = "mesh";
  std::vector<int64_t> sizes;
  for (const MeshAxis& axis : mesh.axes()) {
    named.axes.push_back({axis.name, 1, axis.size});
    sizes.push_back(axis.size);
  }
  const std::span<const int64_t> order = mesh.device_order();
  if (!std::is_sorted(order.begin(), order.end()))
    named.device_ids = arrange(std::move(sizes), std::vector<int64_t>(order.begin(), order.end()));
  return named;
}

}  // namespace

HloSharding tile_sharding(const Sharding& sharding) {
  const Mesh& mesh = *sharding.mesh;
  HloSharding tiles;
  std::vector<int64_t> dims;
  Digits digits;
  auto add = [&](const AxisList& axes) {
    dims.push_back(size_of(axes));
    const Digits of_axes = digits_of(axes, mesh);
    digits.insert(digits.end(), of_axes.begin(), of_axes.end());
  };
  for (const DimSharding& dim : sharding.dims) add(dim.axes);
  const bool is_tiled = std::any_of(dims.begin(), dims.end(), [](int64_t dim) { return dim > 1; });
  const AxisList rest = rest_of(sharding);
  const bool has_copies = size_of(rest) > 1, is_partial = size_of(sharding.partial) > 1;
  if (!is_tiled && !(is_partial && has_copies)) {
    tiles.kind = is_partial ? HloSharding::Kind::unreduced : HloSharding::Kind::replicated;
    return tiles;
  }
  tiles.kind = HloSharding::Kind::tiled;
  if (is_partial) {
    add(sharding.partial);
    tiles.last_tile_dims.push_back(SubgroupKind::unreduced);
  }
  if (has_copies) {
    add(rest);
    tiles.last_tile_dims.push_back(SubgroupKind::replicated);
  }
  tiles.devices = arrange_devices(std::move(dims), digits, mesh);
  return tiles;
}

HloSharding named_sharding(const Sharding& sharding) {
  const Mesh& mesh = *sharding.mesh;
  HloSharding named;
  named.kind = HloSharding::Kind::named;
  named.mesh = named_mesh(mesh);
  for (const DimSharding& dim : sharding.dims)
    named.dims.push_back({names_of(dim.axes, mesh), dim.open, dim.priority});
  named.replicated_axes = names_of(sharding.replicated, mesh);
  named.unreduced_axes = names_of(sharding.partial, mesh);
  if (!sharding.partial.empty() && sharding.partial_kind != ReduceKind::sum)
    named.unreduced_kind = name_of(sharding.partial_kind);
  return named;
}

}  // namespace tessera::hlo
