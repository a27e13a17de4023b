// Groups of devices as axes of a mesh.
#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/device_digits.h"

namespace tessera::hlo {
namespace {

using Lists = std::vector<std::vector<int64_t>>;

// Device -> position.
std::vector<int64_t> positions(const Mesh& mesh) {
  std::vector<int64_t> position(static_cast<size_t>(mesh.devices()));
  for (int64_t i = 0; i < mesh.devices(); ++i) {
    const int64_t device =
        mesh.device_order().empty() ? i : mesh.device_order()[static_cast<size_t>(i)];
    position[static_cast<size_t>(device)] = i;
  }
  return position;
}

}  // namespace

std::optional<AxisList> axes_of_groups(const Lists& groups, const Mesh& mesh, bool in_order) {
  if (groups.empty() || groups[0].empty()) return std::nullopt;
  const std::vector<int64_t> position = positions(mesh);
  Lists by_position = groups;
  const size_t size = groups[0].size(), count = groups.size() * size;
  if (static_cast<int64_t>(count) > mesh.devices() ||
      mesh.devices() % static_cast<int64_t>(count) != 0)
    return std::nullopt;
  std::vector<bool> seen(count, false);
  for (std::vector<int64_t>& group : by_position) {
    if (group.size() != size) return std::nullopt;
    for (int64_t& device : group) {
      if (device < 0 || device >= mesh.devices()) return std::nullopt;
      device = position[static_cast<size_t>(device)];
      if (device >= static_cast<int64_t>(count) || seen[static_cast<size_t>(device)])
        return std::nullopt;
      seen[static_cast<size_t>(device)] = true;
    }
    if (!in_order) std::sort(group.begin(), group.end());
  }
  std::sort(by_position.begin(), by_position.end());
  std::vector<int64_t> list;
  for (const std::vector<int64_t>& group : by_position)
    list.insert(list.end(), group.begin(), group.end());
  const std::optional<Digits> digits = digits_of(list);
  const int64_t dims[] = {static_cast<int64_t>(groups.size()), static_cast<int64_t>(size)};
  const auto by_dim = digits ? split_digits(*digits, dims) : std::nullopt;
  return by_dim ? axes_of((*by_dim)[1], mesh) : std::nullopt;
}

}  // namespace tessera::hlo
