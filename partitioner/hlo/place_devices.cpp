#include "partitioner/hlo/place_devices.h"

#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/device_digits.h"

namespace tessera::hlo {
namespace {

// Device -> position for the devices below `count`; empty where these are not the first positions,
// so that the mesh's own order is of no use.
std::vector<int64_t> positions(const Mesh& mesh, int64_t count) {
  std::vector<int64_t> position(static_cast<size_t>(count), -1);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t device =
        mesh.device_order().empty() ? i : mesh.device_order()[static_cast<size_t>(i)];
    if (device >= count) return {};
    position[static_cast<size_t>(device)] = i;
  }
  return position;
}

std::vector<int64_t> mapped(const std::vector<int64_t>& list, const std::vector<int64_t>& to) {
  std::vector<int64_t> result;
  for (const int64_t entry : list) result.push_back(to[static_cast<size_t>(entry)]);
  return result;
}

void check(const DeviceList& devices, const Mesh& mesh) {
  const int64_t count = devices.devices();
  if (mesh.devices() % count != 0)
    throw_user_error("an arrangement of ", count, " devices does not fit the mesh ", mesh, " of ",
                     mesh.devices(), "; their number must be a multiple of ", count);
  if (devices.is_iota) return;
  const int64_t last = *std::max_element(devices.list.begin(), devices.list.end());
  if (last >= count)
    throw_user_error("device ", last, " in an arrangement of ", count,
                     " devices; they must be 0 to ", count - 1);
}

std::optional<std::vector<AxisList>> axes_of_dims(const Digits& digits,
                                                  const std::vector<int64_t>& dims,
                                                  const std::vector<bool>& is_copies,
                                                  const Mesh& mesh) {
  const std::optional<std::vector<Digits>> split = split_digits(digits, dims);
  if (!split) return std::nullopt;
  std::vector<AxisList> axes(dims.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    if (is_copies[d]) continue;
    const std::optional<AxisList> of_dim = axes_of((*split)[d], mesh);
    if (!of_dim) return std::nullopt;
    axes[d] = *of_dim;
  }
  return axes;
}

// All axes that the minor `count` positions vary along, in parts of prime size, major to minor.
AxisList prime_parts(const Mesh& mesh, int64_t count) {
  AxisList parts;
  for (int a = 0; a < mesh.rank(); ++a) {
    const int64_t stride = stride_of(mesh, a), size = mesh.axes()[static_cast<size_t>(a)].size;
    if (stride >= count) continue;
    const int64_t inside = std::min(size, count / stride);
    if (count % stride != 0 || size % inside != 0)
      throw_user_error("an arrangement of ", count, " devices does not fit the axes of ", mesh);
    int64_t pre = size / inside;
    for (int64_t rest = inside, prime = 2; rest > 1;) {
      if (rest % prime != 0) {
        prime = prime * prime > rest ? rest : prime + 1;
        continue;
      }
      parts.push_back({a, pre, prime});
      pre *= prime;
      rest /= prime;
    }
  }
  return parts;
}

// Axes of the right sizes for every dim, taken in the mesh's order, and the device order under
// which they are the arrangement.
PlacedDevices over_another_order(const DeviceList& devices, const std::vector<int64_t>& list,
                                 const MeshPtr& mesh) {
  const auto count = static_cast<int64_t>(list.size());
  AxisList free = prime_parts(*mesh, count);
  PlacedDevices placed;
  for (int64_t size : devices.dims) {
    AxisList taken, left;
    for (const AxisRef& part : free) {
      const bool fits = size % part.size == 0;
      (fits ? taken : left).push_back(part);
      if (fits) size /= part.size;
    }
    free = std::move(left);
    placed.axes.push_back(canonical(taken));
  }
  const Mesh in_order({mesh->axes().begin(), mesh->axes().end()});
  std::vector<int64_t> order(static_cast<size_t>(mesh->devices()));
  for (int64_t position = 0; position < count; ++position) {
    int64_t index = 0;
    for (size_t d = 0; d < placed.axes.size(); ++d)
      index = index * devices.dims[d] + in_order.coordinate(position, placed.axes[d]);
    for (int64_t copy = 0; copy < mesh->devices(); copy += count)
      order[static_cast<size_t>(copy + position)] = copy + list[static_cast<size_t>(index)];
  }
  placed.mesh = std::make_shared<Mesh>(
      std::vector<MeshAxis>(mesh->axes().begin(), mesh->axes().end()), std::move(order));
  return placed;
}

}  // namespace

DeviceList with_copies_last(const Arrangement& arrangement, const Mesh& mesh) {
  const DeviceList& devices = arrangement.devices;
  const std::vector<int64_t> list = devices.expand();
  const std::vector<int64_t> position = positions(mesh, devices.devices());
  auto rank_of = [&](int64_t device) {
    return position.empty() ? device : position[static_cast<size_t>(device)];
  };
  std::vector<int64_t> kept_dims;
  int64_t copies = 1;
  for (size_t d = 0; d < devices.dims.size(); ++d) {
    if (arrangement.is_copies[d])
      copies *= devices.dims[d];
    else
      kept_dims.push_back(devices.dims[d]);
  }
  const auto groups = static_cast<size_t>(static_cast<int64_t>(list.size()) / copies);
  std::vector<std::vector<int64_t>> by_tile(groups);
  for (size_t i = 0; i < list.size(); ++i) {
    size_t rest = i, tile = 0, weight = 1;
    for (size_t d = devices.dims.size(); d-- > 0;) {
      const auto size = static_cast<size_t>(devices.dims[d]);
      if (!arrangement.is_copies[d]) {
        tile += rest % size * weight;
        weight *= size;
      }
      rest /= size;
    }
    by_tile[tile].push_back(list[i]);
  }
  DeviceList result;
  result.is_iota = false;
  result.dims = std::move(kept_dims);
  result.dims.push_back(copies);
  for (std::vector<int64_t>& tile : by_tile) {
    std::sort(tile.begin(), tile.end(),
              [&](int64_t a, int64_t b) { return rank_of(a) < rank_of(b); });
    result.list.insert(result.list.end(), tile.begin(), tile.end());
  }
  return result;
}

PlacedDevices place_devices(const Arrangement& arrangement, const MeshPtr& mesh) {
  const DeviceList& devices = arrangement.devices;
  check(devices, *mesh);
  const std::vector<bool>& copies = arrangement.is_copies;
  if (std::all_of(copies.begin(), copies.end(), [](bool is_copies) { return is_copies; }))
    return {mesh, std::vector<AxisList>(devices.dims.size())};
  if (devices.is_iota && mesh->device_order().empty())
    if (auto axes = axes_of_dims(digits_of(devices), devices.dims, arrangement.is_copies, *mesh))
      return {mesh, std::move(*axes)};

  const DeviceList sorted = with_copies_last(arrangement, *mesh);
  std::vector<bool> is_copies(sorted.dims.size(), false);
  is_copies.back() = true;
  std::optional<std::vector<AxisList>> axes;
  if (const std::vector<int64_t> position = positions(*mesh, devices.devices()); !position.empty())
    if (const std::optional<Digits> digits = digits_of(mapped(sorted.list, position)))
      axes = axes_of_dims(*digits, sorted.dims, is_copies, *mesh);
  const PlacedDevices placed =
      axes ? PlacedDevices{mesh, std::move(*axes)} : over_another_order(sorted, sorted.list, mesh);

  // Back from the kept dims to all.
  PlacedDevices result{placed.mesh, std::vector<AxisList>(devices.dims.size())};
  size_t kept = 0;
  for (size_t d = 0; d < devices.dims.size(); ++d)
    if (!arrangement.is_copies[d]) result.axes[d] = placed.axes[kept++];
  return result;
}

}  // namespace tessera::hlo
