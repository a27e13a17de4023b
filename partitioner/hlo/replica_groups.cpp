#include "partitioner/hlo/replica_groups.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "partitioner/hlo/device_list_text.h"

namespace tessera::hlo {
namespace {

using Groups = std::vector<std::vector<int64_t>>;

ReplicaGroups scan_lists(NotationScanner& scanner) {
  ReplicaGroups groups;
  scanner.expect("{");
  if (!scanner.accept("}")) {
    do {
      scanner.expect("{");
      groups.lists.push_back(scanner.integers("}"));
    } while (scanner.accept(","));
    scanner.expect("}");
  }
  DeviceList all;
  all.is_iota = false;
  for (const auto& group : groups.lists)
    all.list.insert(all.list.end(), group.begin(), group.end());
  all.dims = {std::max<int64_t>(1, static_cast<int64_t>(all.list.size()))};
  if (!all.list.empty()) check_device_list(scanner, all);
  if (groups.lists == Groups{{}}) groups.lists.clear();
  for (const auto& group : groups.lists)
    if (group.empty()) scanner.refuse("a group without devices");
  return groups;
}

ReplicaGroups scan_iota_groups(NotationScanner& scanner) {
  ReplicaGroups groups;
  groups.kind = ReplicaGroups::Kind::iota;
  scanner.expect("[");
  groups.iota.dims = scanner.integers("]");
  if (groups.iota.dims.size() != 2)
    scanner.refuse("groups are written [number of groups,devices of each]<=[...]");
  scanner.expect("<=");
  scan_iota(scanner, groups.iota);
  check_device_list(scanner, groups.iota);
  return groups;
}

ReplicaGroups scan_named_groups(NotationScanner& scanner) {
  ReplicaGroups groups;
  groups.kind = ReplicaGroups::Kind::named;
  groups.mesh = scan_mesh(scanner);
  scanner.accept(",");
  groups.axes = scan_axes(scanner, *groups.mesh);
  check_disjoint(scanner, *groups.mesh, groups.axes);
  return groups;
}

Groups cut(const std::vector<int64_t>& devices, int64_t size) {
  Groups groups;
  for (size_t i = 0; i < devices.size(); i += static_cast<size_t>(size))
    groups.emplace_back(devices.begin() + static_cast<std::ptrdiff_t>(i),
                        devices.begin() + static_cast<std::ptrdiff_t>(i) + size);
  return groups;
}

// The positions in the mesh, the axes of the groups last and in their order, are arange over the
// mesh's dims with these parts moved to the end.
Groups expand_named(const NamedMesh& mesh, const std::vector<NamedAxis>& axes) {
  struct Part {
    int64_t size, stride;
  };
  int64_t total = 1;
  for (const NamedAxis& axis : mesh.axes) total *= axis.size;
  std::vector<Part> inside;
  int64_t group_size = 1, stride = total;
  std::vector<int64_t> strides;
  for (const NamedAxis& axis : mesh.axes) strides.push_back(stride /= axis.size);
  for (const NamedAxis& part : axes)
    for (size_t a = 0; a < mesh.axes.size(); ++a)
      if (mesh.axes[a].name == part.name) {
        const int64_t whole = mesh.axes[a].size, size = part.size == 0 ? whole : part.size;
        inside.push_back({size, strides[a] * (whole / (part.pre * size))});
        group_size *= size;
      }
  const std::vector<int64_t> order =
      mesh.device_ids ? mesh.device_ids->expand() : std::vector<int64_t>{};
  Groups groups;
  for (int64_t base = 0; base < total; ++base) {
    const bool is_first = std::all_of(inside.begin(), inside.end(), [&](const Part& part) {
      return base / part.stride % part.size == 0;
    });
    if (!is_first) continue;
    std::vector<int64_t>& group = groups.emplace_back();
    for (int64_t member = 0; member < group_size; ++member) {
      int64_t position = base, rest = member;
      for (size_t i = inside.size(); i-- > 0; rest /= inside[i].size)
        position += rest % inside[i].size * inside[i].stride;
      group.push_back(order.empty() ? position : order[static_cast<size_t>(position)]);
    }
  }
  return groups;
}

}  // namespace

Groups ReplicaGroups::expand(int64_t devices) const {
  if (kind == Kind::iota) return cut(iota.expand(), iota.dims.back());
  if (kind == Kind::named) {
    if (mesh->maximal_device >= 0) return {{mesh->maximal_device}};
    return expand_named(*mesh, axes);
  }
  if (!lists.empty()) return lists;
  if (devices < 0 || devices > kMaxDevices)
    throw_user_error("replica groups for ", devices, " devices; the most are ", kMaxDevices);
  std::vector<int64_t> all(static_cast<size_t>(devices));
  std::iota(all.begin(), all.end(), 0);
  return {std::move(all)};
}

ReplicaGroups parse_replica_groups(std::string_view text) {
  NotationScanner scanner(text, "replica groups");
  ReplicaGroups groups = scanner.looks_at("{")   ? scan_lists(scanner)
                         : scanner.looks_at("[") ? scan_iota_groups(scanner)
                                                 : scan_named_groups(scanner);
  scanner.finish();
  return groups;
}

std::string print(const ReplicaGroups& groups) {
  if (groups.kind == ReplicaGroups::Kind::iota)
    return cat("[", join(groups.iota.dims, ","), "]<=", print_iota(groups.iota));
  if (groups.kind == ReplicaGroups::Kind::named)
    return cat(print_mesh(*groups.mesh), " ", print_axes(groups.axes));
  std::vector<std::string> lists;
  for (const auto& list : groups.lists) lists.push_back(cat("{", join(list, ","), "}"));
  return cat("{", join(lists, ","), "}");
}

}  // namespace tessera::hlo
