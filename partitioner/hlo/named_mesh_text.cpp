// Meshes and axes by name, in the notation of XLA: mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)), and
// 'b':(2)2.
#include <algorithm>

#include "core/base/error.h"
#include "partitioner/hlo/device_list_text.h"

namespace tessera::hlo {
namespace {

std::string quoted(const std::string& name) {
  std::string text = "'";
  for (const char symbol : name) {
    if (symbol == '\'' || symbol == '\\') text += '\\';
    text += symbol;
  }
  return text + "'";
}

std::vector<int64_t> sizes_of(const NamedMesh& mesh) {
  std::vector<int64_t> sizes;
  for (const NamedAxis& axis : mesh.axes) sizes.push_back(axis.size);
  return sizes;
}

// ([4,16]T(1,0)) or (0,2,1,3), with round or square brackets around.
DeviceList scan_device_ids(NotationScanner& scanner, const NamedMesh& mesh) {
  DeviceList ids;
  ids.dims = sizes_of(mesh);
  const bool is_round = scanner.accept("(");
  if (is_round && scanner.looks_at("[")) {
    scan_iota(scanner, ids);
    scanner.expect(")");
  } else {
    if (!is_round) scanner.expect("[");
    ids.is_iota = false;
    ids.list = scanner.integers(is_round ? ")" : "]");
  }
  check_device_list(scanner, ids);
  return ids;
}

}  // namespace

NamedMesh scan_mesh(NotationScanner& scanner) {
  NamedMesh mesh;
  scanner.accept("@");
  mesh.name = scanner.word();
  const bool is_angular = scanner.accept("<");
  if (!is_angular) scanner.expect("[");
  const std::string_view close = is_angular ? ">" : "]";
  if (scanner.accept_word("device_id")) {
    scanner.expect("=");
    mesh.maximal_device = scanner.integer();
    if (mesh.maximal_device < 0) scanner.refuse(cat("there is no device ", mesh.maximal_device));
    scanner.expect(close);
    return mesh;
  }
  if (!scanner.accept(close)) {
    do {
      NamedAxis axis;
      axis.name = scanner.name();
      scanner.expect("=");
      axis.size = scanner.positive();
      for (const NamedAxis& other : mesh.axes)
        if (other.name == axis.name) scanner.refuse(cat("axis '", axis.name, "' is named twice"));
      mesh.axes.push_back(std::move(axis));
    } while (scanner.accept(","));
    scanner.expect(close);
  }
  if (device_product(sizes_of(mesh)) < 0)
    scanner.refuse(cat("the mesh has more than ", kMaxDevices, " devices"));
  NotationScanner ahead = scanner;
  ahead.accept(",");
  if (ahead.accept_word("device_ids")) {
    ahead.expect("=");
    mesh.device_ids = scan_device_ids(ahead, mesh);
    scanner = ahead;
  }
  return mesh;
}

NamedAxis scan_axis(NotationScanner& scanner, const NamedMesh& mesh) {
  NamedAxis axis;
  axis.name = scanner.name();
  const auto found = std::find_if(mesh.axes.begin(), mesh.axes.end(),
                                  [&](const NamedAxis& other) { return other.name == axis.name; });
  if (found == mesh.axes.end()) {
    std::vector<std::string> names;
    for (const NamedAxis& other : mesh.axes) names.push_back(other.name);
    scanner.refuse(cat("the mesh has no axis '", axis.name, "'; it has ",
                       names.empty() ? "none" : join(names)));
  }
  if (!scanner.accept(":")) return axis;
  scanner.expect("(");
  axis.pre = scanner.positive();
  scanner.expect(")");
  axis.size = scanner.positive();
  const std::vector<int64_t> parts = {axis.pre, axis.size};
  const int64_t product = device_product(parts);
  if (product < 0 || found->size % product != 0)
    scanner.refuse(cat("part (", axis.pre, ")", axis.size, " does not divide axis '", axis.name,
                       "' of size ", found->size));
  if (axis.pre == 1 && axis.size == found->size) axis.size = 0;
  return axis;
}

std::vector<NamedAxis> scan_axes(NotationScanner& scanner, const NamedMesh& mesh, bool* open) {
  std::vector<NamedAxis> axes;
  scanner.expect("{");
  if (scanner.accept("}")) return axes;
  do {
    if (open && scanner.accept("?")) {
      *open = true;
      break;
    }
    axes.push_back(scan_axis(scanner, mesh));
  } while (scanner.accept(","));
  scanner.expect("}");
  return axes;
}

void check_disjoint(NotationScanner& scanner, const NamedMesh& mesh,
                    const std::vector<NamedAxis>& axes) {
  auto size_of = [&](const NamedAxis& axis) {
    for (const NamedAxis& whole : mesh.axes)
      if (axis.size == 0 && whole.name == axis.name) return whole.size;
    return axis.size;
  };
  for (size_t i = 0; i < axes.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const NamedAxis &a = axes[i], &b = axes[j];
      const int64_t a_size = size_of(a), b_size = size_of(b);
      if (a.name != b.name || a_size == 1 || b_size == 1) continue;
      if (b.pre % (a.pre * a_size) != 0 && a.pre % (b.pre * b_size) != 0)
        scanner.refuse(cat("axis ", print_axis(a), " is used twice",
                           a == b ? "" : cat(", also as ", print_axis(b))));
    }
}

std::string print_mesh(const NamedMesh& mesh) {
  if (mesh.maximal_device >= 0) return cat("maximal_mesh[device_id=", mesh.maximal_device, "]");
  std::vector<std::string> axes;
  for (const NamedAxis& axis : mesh.axes) axes.push_back(cat(quoted(axis.name), "=", axis.size));
  // Other names than mesh... are known as such by the @ alone.
  const bool is_plain = mesh.name.empty() || mesh.name.starts_with("mesh");
  std::string text = cat(is_plain ? "" : "@", mesh.name.empty() ? "mesh" : mesh.name, "[", join(axes, ","), "]");
  if (mesh.device_ids)
    text += cat(
        ", device_ids=(",
        mesh.device_ids->is_iota ? print_iota(*mesh.device_ids) : join(mesh.device_ids->list, ","),
        ")");
  return text;
}

std::string print_axis(const NamedAxis& axis) {
  return cat(quoted(axis.name), axis.size == 0 ? "" : cat(":(", axis.pre, ")", axis.size));
}

std::string print_axes(const std::vector<NamedAxis>& axes, bool open) {
  std::vector<std::string> parts;
  for (const NamedAxis& axis : axes) parts.push_back(print_axis(axis));
  if (open) parts.push_back("?");
  return cat("{", join(parts), "}");
}

}  // namespace tessera::hlo
