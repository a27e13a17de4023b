#include "core/base/error.h"
#include "partitioner/hlo/device_list_text.h"
#include "partitioner/hlo/sharding.h"

namespace tessera::hlo {
namespace {

using Kind = HloSharding::Kind;

class ShardingScanner {
 public:
  explicit ShardingScanner(std::string_view text) : in_(text, "sharding") {}

  HloSharding scan() {
    // Only a tuple begins with two braces; tuples do not nest, shapes of nested tuples are
    // flattened.
    HloSharding sharding;
    NotationScanner ahead = in_;
    ahead.expect("{");
    if (!ahead.looks_at("{") && !ahead.looks_at("}")) {
      sharding = scan_one();
    } else {
      in_ = ahead;
      sharding.kind = Kind::tuple;
      if (!in_.accept("}")) {
        do sharding.elements.push_back(scan_one());
        while (in_.accept(","));
        in_.expect("}");
      }
    }
    in_.finish();
    return sharding;
  }

 private:
  HloSharding scan_one() {
    HloSharding sharding;
    bool has_kind = false;
    in_.expect("{");
    if (in_.looks_at("}")) in_.fail("a sharding");
    while (!in_.accept("}")) {
      has_kind = scan_part(sharding, has_kind) || has_kind;
      in_.accept(",");
    }
    if (!has_kind) in_.refuse("it says neither how the tensor lies nor {unknown}");
    check_tiles(sharding);
    return sharding;
  }

  // One word or attribute. True where it says how the tensor lies.
  bool scan_part(HloSharding& sharding, bool has_kind) {
    if (in_.accept_word("metadata")) {
      in_.expect("=");
      in_.skip_braces();
    } else if (in_.accept_word("last_tile_dim_replicate")) {
      sharding.last_tile_dims = {SubgroupKind::replicated};
    } else if (in_.accept_word("last_tile_dims")) {
      scan_last_tile_dims(sharding);
    } else if (in_.accept_word("shard_as")) {
      sharding.group = HloSharding::ShardGroup{in_.integer(), true};
    } else if (in_.accept_word("shard_like")) {
      sharding.group = HloSharding::ShardGroup{in_.integer(), false};
    } else if (in_.accept_word("device")) {  // of maximal, whose word may be left out
      if (has_kind && sharding.kind != Kind::maximal) in_.refuse("only maximal has a device");
      in_.expect("=");
      sharding.kind = Kind::maximal;
      sharding.device = in_.integer();
      return true;
    } else {
      if (has_kind) in_.fail("'}'");
      scan_kind(sharding);
      return true;
    }
    return false;
  }

  bool scan_plain_kind(HloSharding& sharding) {
    constexpr std::pair<std::string_view, Kind> kWords[] = {{"replicated", Kind::replicated},
                                                            {"manual", Kind::manual},
                                                            {"maximal", Kind::maximal},
                                                            {"unknown", Kind::unknown},
                                                            {"unreduced", Kind::unreduced}};
    for (const auto& [word, kind] : kWords)
      if (in_.accept_word(word)) {
        sharding.kind = kind;
        return true;
      }
    return false;
  }

  void scan_kind(HloSharding& sharding) {
    if (scan_plain_kind(sharding)) return;
    if (in_.accept_word("devices")) {
      in_.expect("=");
      scan_devices(sharding);
    } else if (in_.looks_at("@") || in_.looks_at("mesh") || in_.looks_at("maximal_mesh")) {
      scan_named(sharding);
    } else {
      in_.fail("replicated, maximal, manual, unknown, unreduced, devices= or mesh[");
    }
  }

  void scan_devices(HloSharding& sharding) {
    sharding.kind = Kind::tiled;
    in_.expect("[");
    sharding.devices.dims = in_.integers("]");
    if (in_.accept("<=")) {
      scan_iota(in_, sharding.devices);
    } else {
      sharding.devices.is_iota = false;
      do sharding.devices.list.push_back(in_.integer());
      while (in_.accept(","));
    }
    check_device_list(in_, sharding.devices);
  }

  void scan_last_tile_dims(HloSharding& sharding) {
    in_.expect("=");
    in_.expect("{");
    do {
      if (in_.accept_word("manual"))
        sharding.last_tile_dims.push_back(SubgroupKind::manual);
      else if (in_.accept_word("replicated"))
        sharding.last_tile_dims.push_back(SubgroupKind::replicated);
      else if (in_.accept_word("unreduced"))
        sharding.last_tile_dims.push_back(SubgroupKind::unreduced);
      else
        in_.fail("manual, replicated or unreduced");
    } while (in_.accept(","));
    in_.expect("}");
  }

  void check_tiles(const HloSharding& sharding) {
    if (sharding.last_tile_dims.empty()) return;
    if (sharding.kind != Kind::tiled) in_.refuse("only devices= has last tile dims");
    if (sharding.tile_rank() < 0)
      in_.refuse(cat("last_tile_dims names ", sharding.last_tile_dims.size(), " dims of [",
                     join(sharding.devices.dims, ","), "]"));
  }

  void scan_named(HloSharding& sharding) {
    sharding.mesh = scan_mesh(in_);
    if (sharding.mesh.maximal_device >= 0) {
      sharding.kind = Kind::maximal;
      sharding.device = sharding.mesh.maximal_device;
      return;
    }
    in_.accept(",");
    if (scan_plain_kind(sharding)) return;
    sharding.kind = Kind::named;
    in_.expect("[");
    if (!in_.accept("]")) {
      do {
        NamedDim dim;
        dim.axes = scan_axes(in_, sharding.mesh, &dim.open);
        if (in_.looks_at("p")) dim.priority = scan_priority();
        sharding.dims.push_back(std::move(dim));
      } while (in_.accept(","));
      in_.expect("]");
    }
    scan_other_axes(sharding);
  }

  int scan_priority() {
    in_.expect("p");
    const int64_t priority = in_.integer();
    if (priority < 0 || priority > 1000) in_.refuse("priorities are 0 to 1000");
    return static_cast<int>(priority);
  }

  // , replicated={'c'}, unreduced=max{'d'}, manual={'e'}
  void scan_other_axes(HloSharding& sharding) {
    for (;;) {
      NotationScanner ahead = in_;
      ahead.accept(",");
      if (ahead.accept_word("replicated")) {
        in_ = ahead;
        in_.expect("=");
        sharding.replicated_axes = scan_axes(in_, sharding.mesh);
      } else if (ahead.accept_word("unreduced")) {
        in_ = ahead;
        in_.expect("=");
        sharding.unreduced_kind = in_.word();
        if (sharding.unreduced_kind == "sum") sharding.unreduced_kind.clear();
        sharding.unreduced_axes = scan_axes(in_, sharding.mesh);
      } else if (ahead.accept_word("manual")) {
        in_ = ahead;
        in_.expect("=");
        sharding.manual_axes = scan_axes(in_, sharding.mesh);
      } else {
        break;
      }
    }
    check_axes(in_, sharding);
  }

  NotationScanner in_;
};

std::string print_tiled(const HloSharding& sharding) {
  const DeviceList& devices = sharding.devices;
  std::string text = cat("devices=[", join(devices.dims, ","), "]");
  text += devices.is_iota ? cat("<=", print_iota(devices)) : join(devices.list, ",");
  if (sharding.last_tile_dims == std::vector{SubgroupKind::replicated})
    return text + " last_tile_dim_replicate";
  if (sharding.last_tile_dims.empty()) return text;
  std::vector<std::string_view> kinds;
  for (const SubgroupKind kind : sharding.last_tile_dims)
    kinds.push_back(kind == SubgroupKind::manual       ? "manual"
                    : kind == SubgroupKind::replicated ? "replicated"
                                                       : "unreduced");
  return cat(text, " last_tile_dims={", join(kinds), "}");
}

std::string print_named(const HloSharding& sharding) {
  std::vector<std::string> dims;
  for (const NamedDim& dim : sharding.dims)
    dims.push_back(
        cat(print_axes(dim.axes, dim.open), dim.priority == 0 ? "" : cat("p", dim.priority)));
  std::string text = cat(print_mesh(sharding.mesh), ", [", join(dims), "]");
  if (!sharding.replicated_axes.empty())
    text += cat(", replicated=", print_axes(sharding.replicated_axes));
  if (!sharding.unreduced_axes.empty())
    text += cat(", unreduced=", sharding.unreduced_kind, print_axes(sharding.unreduced_axes));
  if (!sharding.manual_axes.empty()) text += cat(", manual=", print_axes(sharding.manual_axes));
  return text;
}

std::string print_kind(const HloSharding& sharding) {
  // {mesh['a'=2], replicated}: the mesh says nothing more, but is part of the text.
  auto with_mesh = [&](std::string_view word) {
    return sharding.mesh.name.empty() ? std::string(word)
                                      : cat(print_mesh(sharding.mesh), ", ", word);
  };
  switch (sharding.kind) {
    case Kind::replicated:
      return with_mesh("replicated");
    case Kind::manual:
      return with_mesh("manual");
    case Kind::unknown:
      return with_mesh("unknown");
    case Kind::unreduced:
      return with_mesh("unreduced");
    case Kind::maximal:
      return sharding.mesh.maximal_device >= 0 ? print_mesh(sharding.mesh)
                                               : cat("maximal device=", sharding.device);
    case Kind::tiled:
      return print_tiled(sharding);
    case Kind::named:
      return print_named(sharding);
    case Kind::tuple:
      break;
  }
  TESSERA_CHECK(false, "a tuple's sharding has no kind of its own");
  return "";
}

}  // namespace

void check_axes(NotationScanner& scanner, const HloSharding& sharding) {
  std::vector<NamedAxis> used;
  for (const NamedDim& dim : sharding.dims)
    used.insert(used.end(), dim.axes.begin(), dim.axes.end());
  for (const auto* axes :
       {&sharding.replicated_axes, &sharding.unreduced_axes, &sharding.manual_axes})
    used.insert(used.end(), axes->begin(), axes->end());
  check_disjoint(scanner, sharding.mesh, used);
  const std::string& kind = sharding.unreduced_kind;
  if (!kind.empty() && kind != "max" && kind != "min")
    scanner.refuse(cat("unreduced=", kind, "{...}: the combiners are sum, max and min"));
}

HloSharding tuple_of(std::vector<HloSharding> elements) {
  HloSharding tuple;
  tuple.kind = HloSharding::Kind::tuple;
  tuple.elements = std::move(elements);
  return tuple;
}

HloSharding parse_hlo_sharding(std::string_view text) { return ShardingScanner(text).scan(); }

std::string print(const HloSharding& sharding) {
  if (sharding.kind == Kind::tuple) {
    std::vector<std::string> elements;
    for (const HloSharding& element : sharding.elements) elements.push_back(print(element));
    return cat("{", join(elements), "}");
  }
  return cat("{", print_kind(sharding),
             !sharding.group
                 ? ""
                 : cat(sharding.group->as ? " shard_as " : " shard_like ", sharding.group->id),
             "}");
}

}  // namespace tessera::hlo
