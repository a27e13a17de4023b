#include "partitioner/hlo/sdy.h"

#include "core/base/error.h"
#include "partitioner/hlo/device_list_text.h"

namespace tessera::hlo {
namespace {

using Meshes = std::map<std::string, NamedMesh>;

// Exported programs nest their strings more than once: what is left are backslashes before quotes.
std::string without_escaped_quotes(std::string_view text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    size_t end = i;
    while (end < text.size() && text[end] == '\\') ++end;
    if (end > i && text.substr(end, 1) == "\"") i = end;
    clean += text[i];
  }
  return clean;
}

class SdyScanner {
 public:
  SdyScanner(std::string_view text, std::string_view what, const Meshes& meshes)
      : text_(without_escaped_quotes(text)), in_(text_, what), meshes_(meshes) {}

  Meshes scan_meshes() {
    Meshes meshes;
    const bool has_braces = in_.accept("{");
    while (!in_.at_end() && !in_.looks_at("}")) {
      in_.accept("@");
      std::string name = in_.name();
      in_.expect("=");
      in_.accept("#sdy.");
      in_.accept_word("mesh");
      NamedMesh mesh = scan_mesh_body();
      mesh.name = name;
      if (!meshes.emplace(name, std::move(mesh)).second)
        in_.refuse(cat("mesh \"", name, "\" stands there twice"));
      if (!in_.accept(",")) break;
    }
    if (has_braces) in_.expect("}");
    in_.finish();
    return meshes;
  }

  std::vector<HloSharding> scan_shardings() {
    std::vector<HloSharding> shardings;
    if (in_.accept("#sdy.sharding_per_value")) {
      in_.expect("<");
      in_.expect("[");
      if (!in_.accept("]")) {
        do shardings.push_back(scan_sharding());
        while (in_.accept(","));
        in_.expect("]");
      }
      in_.expect(">");
    } else {
      in_.accept("#sdy.sharding");
      shardings.push_back(scan_sharding());
    }
    in_.finish();
    return shardings;
  }

  // #sdy<manual_axes{"a", "b"}>, #sdy.manual_axes<{"a"}>, {"a"}
  std::vector<std::string> scan_manual_axes() {
    std::vector<std::string> axes;
    in_.accept("#sdy");
    in_.accept(".");
    in_.accept("<");
    in_.accept_word("manual_axes");
    in_.accept("<");
    in_.expect("{");
    if (!in_.accept("}")) {
      do axes.push_back(in_.name());
      while (in_.accept(","));
      in_.expect("}");
    }
    in_.accept(">");
    in_.finish();
    return axes;
  }

 private:
  // <["a"=2, "b"=4], device_ids=[...]>
  NamedMesh scan_mesh_body() {
    NamedMesh mesh;
    mesh.name = "mesh";
    std::vector<int64_t> sizes;
    in_.expect("<");
    in_.expect("[");
    if (!in_.accept("]")) {
      do {
        NamedAxis axis;
        axis.name = in_.name();
        in_.expect("=");
        axis.size = in_.positive();
        for (const NamedAxis& other : mesh.axes)
          if (other.name == axis.name) in_.refuse(cat("axis \"", axis.name, "\" is named twice"));
        sizes.push_back(axis.size);
        mesh.axes.push_back(std::move(axis));
      } while (in_.accept(","));
      in_.expect("]");
    }
    if (device_product(sizes) < 0)
      in_.refuse(cat("the mesh has more than ", kMaxDevices, " devices"));
    if (in_.accept(",")) {
      if (!in_.accept_word("device_ids")) in_.fail("device_ids");
      in_.expect("=");
      in_.expect("[");
      const std::vector<int64_t> ids = in_.integers("]");
      set_device_ids(mesh, sizes, ids);
    }
    in_.expect(">");
    return mesh;
  }

  void set_device_ids(NamedMesh& mesh, const std::vector<int64_t>& sizes,
                      const std::vector<int64_t>& ids) {
    DeviceList list;
    list.is_iota = false;
    list.dims = sizes;
    list.list = ids;
    check_device_list(in_, list);
    if (sizes.empty())
      mesh.maximal_device = ids.front();
    else
      mesh.device_ids = std::move(list);
  }

  // <@mesh, [{"data"}, {?}p1], replicated={"x"}, unreduced={"y"}>
  HloSharding scan_sharding() {
    HloSharding sharding;
    sharding.kind = HloSharding::Kind::named;
    in_.expect("<");
    sharding.mesh = scan_mesh_reference();
    if (in_.accept(",")) {
      in_.expect("[");
      if (!in_.accept("]")) {
        do sharding.dims.push_back(scan_dim(sharding.mesh));
        while (in_.accept(","));
        in_.expect("]");
      }
    }
    while (in_.accept(",")) scan_axes_attribute(sharding);
    in_.expect(">");
    check_axes(in_, sharding);
    if (sharding.mesh.maximal_device < 0) return sharding;
    HloSharding maximal;
    maximal.kind = HloSharding::Kind::maximal;
    maximal.device = sharding.mesh.maximal_device;
    return maximal;
  }

  NamedMesh scan_mesh_reference() {
    if (in_.accept_word("mesh") || in_.accept("#sdy.mesh")) return scan_mesh_body();
    in_.expect("@");
    const std::string name = in_.name();
    if (const auto found = meshes_.find(name); found != meshes_.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [known, mesh] : meshes_) names.push_back(known);
    const std::string nearest = nearest_name(name, names);
    in_.refuse(cat("the module has no mesh @", name,
                   nearest.empty() ? "" : cat("; did you mean @", nearest, "?"),
                   " Meshes are declared in its frontend attribute xla.sdy.meshes"));
  }

  NamedDim scan_dim(const NamedMesh& mesh) {
    NamedDim dim;
    dim.axes = scan_axes(in_, mesh, &dim.open);
    if (!in_.accept("p")) return dim;
    const int64_t priority = in_.integer();
    if (priority < 0 || priority > 1000) in_.refuse("priorities are 0 to 1000");
    dim.priority = static_cast<int>(priority);
    return dim;
  }

  void scan_axes_attribute(HloSharding& sharding) {
    if (in_.accept_word("replicated")) {
      in_.expect("=");
      sharding.replicated_axes = scan_axes(in_, sharding.mesh);
    } else if (in_.accept_word("unreduced")) {
      in_.expect("=");
      sharding.unreduced_kind = in_.word();
      if (sharding.unreduced_kind == "sum") sharding.unreduced_kind.clear();
      sharding.unreduced_axes = scan_axes(in_, sharding.mesh);
    } else {
      in_.fail("replicated= or unreduced=");
    }
  }

  std::string text_;
  NotationScanner in_;
  const Meshes& meshes_;
};

}  // namespace

Meshes parse_sdy_meshes(std::string_view text) {
  return SdyScanner(text, "xla.sdy.meshes", {}).scan_meshes();
}

std::vector<HloSharding> parse_sdy_shardings(std::string_view text, const Meshes& meshes) {
  return SdyScanner(text, "xla.sdy.sharding", meshes).scan_shardings();
}

std::vector<std::string> parse_sdy_manual_axes(std::string_view text) {
  return SdyScanner(text, "xla.sdy.manual_axes", {}).scan_manual_axes();
}

}  // namespace tessera::hlo
