// One mesh for all of a module's shardings: named axes as they are, or the strides of its tile
// assignments.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/device_digits.h"
#include "partitioner/hlo/device_list_text.h"
#include "partitioner/hlo/device_uses.h"

namespace tessera::hlo {
namespace {

// Axes, and the order of devices where it is not that of their numbers.
struct Axes {
  std::vector<MeshAxis> axes;
  std::vector<int64_t> order;
  int64_t devices() const {
    return std::accumulate(
        axes.begin(), axes.end(), int64_t{1},
        [](int64_t product, const MeshAxis& axis) { return product * axis.size; });
  }
};

// Of the meshes that are only declared those count that have the program's number of devices.
const NamedMesh* main_mesh(const DeviceUses& uses, int64_t devices) {
  auto is_candidate = [&](const NamedMeshUse& use) {
    const int64_t size = devices_of(use.mesh);
    if (use.uses > 0) return true;
    return (uses.devices == 1 || uses.devices == size) && devices % size == 0;
  };
  const NamedMeshUse* best = nullptr;
  auto rank = [](const NamedMeshUse& use) {
    return std::tuple(use.uses > 0, devices_of(use.mesh), use.uses);
  };
  for (const NamedMeshUse& use : uses.meshes)
    if (is_candidate(use) && (!best || rank(use) > rank(*best))) best = &use;
  return best ? &best->mesh : nullptr;
}

// With device_ids that count in strides the axes stand in the order of these, which spares a device
// order: mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) is <b=4, a=2>.
Axes axes_of_mesh(const NamedMesh& mesh) {
  Axes result;
  std::vector<int64_t> sizes;
  for (const NamedAxis& axis : mesh.axes) {
    result.axes.push_back({axis.name, axis.size});
    sizes.push_back(axis.size);
  }
  if (!mesh.device_ids) return result;
  const std::vector<int64_t> ids = mesh.device_ids->expand();
  const std::optional<Digits> digits = digits_of(ids);
  const auto by_axis = digits ? split_digits(*digits, sizes) : std::nullopt;
  const bool is_strided =
      by_axis && std::all_of(by_axis->begin(), by_axis->end(),
                             [](const Digits& of_axis) { return of_axis.size() <= 1; });
  if (!is_strided) {
    result.order = ids;
    return result;
  }
  auto stride = [&](size_t axis) {
    return (*by_axis)[axis].empty() ? int64_t{0} : (*by_axis)[axis][0].stride;
  };
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return stride(a) > stride(b); });
  std::vector<MeshAxis> sorted;
  for (const size_t axis : order) sorted.push_back(result.axes[axis]);
  result.axes = std::move(sorted);
  return result;
}

// The order of devices that most lists share, where most tile assignments are lists that count in
// no strides (devices numbered along a torus); else none.
std::vector<int64_t> common_order(const DeviceUses& uses) {
  const Mesh plain({{"x0", uses.devices}});
  std::map<std::vector<int64_t>, int64_t> lists;
  int64_t strided = 0;
  for (size_t i = 0; i < uses.arrangements.size(); ++i) {
    const DeviceList& devices = uses.arrangements[i].devices;
    if (devices.is_iota) {
      strided += uses.arrangement_uses[i];
      continue;
    }
    const DeviceList sorted = with_copies_last(uses.arrangements[i], plain);
    if (digits_of(sorted.list))
      strided += uses.arrangement_uses[i];
    else if (devices.devices() == uses.devices)
      lists[sorted.list] += uses.arrangement_uses[i];
  }
  const auto most = std::max_element(
      lists.begin(), lists.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == lists.end() || most->second <= strided) return {};
  for (size_t i = 0; i < most->first.size(); ++i)
    if (most->first[i] < 0 || most->first[i] >= uses.devices) return {};
  return most->first;
}

// Where the digits of an arrangement begin and end, in positions; none where it has no digits.
std::set<int64_t> cuts_of(const Arrangement& arrangement, const std::vector<int64_t>& order) {
  std::optional<Digits> digits;
  std::vector<int64_t> dims = arrangement.devices.dims;
  std::vector<bool> is_copies = arrangement.is_copies;
  std::optional<std::vector<Digits>> by_dim;
  if (arrangement.devices.is_iota && order.empty())
    by_dim = split_digits(digits_of(arrangement.devices), dims);
  if (!by_dim) {
    const Mesh mesh({{"x0", arrangement.devices.devices()}},
                    static_cast<int64_t>(order.size()) == arrangement.devices.devices()
                        ? order
                        : std::vector<int64_t>{});
    DeviceList sorted = with_copies_last(arrangement, mesh);
    std::vector<int64_t> position(order.size());
    for (size_t i = 0; i < order.size(); ++i)
      position[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    if (!mesh.device_order().empty())
      for (int64_t& device : sorted.list) device = position[static_cast<size_t>(device)];
    dims = sorted.dims;
    is_copies.assign(dims.size(), false);
    is_copies.back() = true;
    digits = digits_of(sorted.list);
    if (digits) by_dim = split_digits(*digits, dims);
  }
  std::set<int64_t> cuts;
  for (size_t d = 0; by_dim && d < dims.size(); ++d)
    if (!is_copies[d])
      for (const Digit& digit : (*by_dim)[d])
        cuts.insert({digit.stride, digit.stride * digit.size});
  return cuts;
}

bool is_chain(const std::set<int64_t>& cuts) {
  for (auto cut = cuts.begin(); cut != cuts.end() && std::next(cut) != cuts.end(); ++cut)
    if (*std::next(cut) % *cut != 0) return false;
  return true;
}

// x0, x1, ... major to minor, cut wherever an arrangement is. What does not fit into the cuts of
// those before it will be a sharding over another device order.
Axes axes_of_tiles(const DeviceUses& uses) {
  Axes result;
  result.order = common_order(uses);
  std::set<int64_t> cuts = {1, uses.devices};
  for (const Arrangement& arrangement : uses.arrangements) {
    std::set<int64_t> more = cuts_of(arrangement, result.order);
    more.insert(cuts.begin(), cuts.end());
    if (is_chain(more)) cuts = std::move(more);
  }
  int64_t minor = 0;
  for (const int64_t cut : cuts) {
    if (minor > 0) result.axes.insert(result.axes.begin(), {"", cut / minor});
    minor = cut;
  }
  if (result.axes.empty()) result.axes = {{"", 1}};
  for (size_t a = 0; a < result.axes.size(); ++a) result.axes[a].name = cat("x", a);
  return result;
}

void add_replicas(Axes& axes, int64_t replicas) {
  std::string name = "replica";
  auto is_taken = [&] {
    return std::any_of(axes.axes.begin(), axes.axes.end(),
                       [&](const MeshAxis& axis) { return axis.name == name; });
  };
  for (int number = 1; is_taken(); ++number) name = cat("replica_", number);
  axes.axes.insert(axes.axes.begin(), {name, replicas});
  const auto count = static_cast<int64_t>(axes.order.size());
  for (int64_t i = count; i < count * replicas; ++i)
    axes.order.push_back(axes.order[static_cast<size_t>(i - count)] + count);
}

// As many as shardings, collectives and the mesh speak of, or num_partitions.
int64_t default_devices(const HloModule& module, const DeviceUses& uses, int64_t mesh) {
  const int64_t unit = std::lcm(uses.devices, mesh);
  const int64_t total = (std::max<int64_t>(uses.highest, 1) + unit - 1) / unit * unit;
  const int64_t partitions = module.num_partitions.value_or(1);
  return partitions > total && partitions % unit == 0 ? partitions : total;
}

}  // namespace

MeshPtr choose_mesh(const HloModule& module, int64_t devices) {
  if (devices < 0) throw_config_error("a program for ", devices, " devices; give 1 or more");
  const DeviceUses uses = device_uses(module);
  const NamedMesh* named = main_mesh(uses, devices);
  Axes axes = named ? axes_of_mesh(*named) : axes_of_tiles(uses);
  const int64_t total = devices == 0 ? default_devices(module, uses, axes.devices()) : devices;
  if (total % uses.devices != 0)
    throw_config_error("the program's shardings are for ", uses.devices, " devices, which ", total,
                       " devices are no multiple of; run it on ", uses.devices, " or ",
                       2 * uses.devices);
  if (total < uses.highest)
    throw_config_error("the program's collectives name device ", uses.highest - 1,
                       ", but there are ", total, " devices; run it on more");
  if (total % axes.devices() != 0)
    throw_config_error("the program's mesh ", print_mesh(*named), " has ", axes.devices(),
                       " devices, but its shardings need ", total, ", which is no multiple");
  if (total > kMaxDevices)
    throw_config_error("a program for ", total, " devices; the most are ", kMaxDevices);
  if (total > axes.devices()) add_replicas(axes, total / axes.devices());
  return std::make_shared<Mesh>(std::move(axes.axes), std::move(axes.order));
}

}  // namespace tessera::hlo
