#include "partitioner/hlo/stated_sharding.h"

#include <algorithm>
#include <charconv>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/sdy.h"

namespace tessera::hlo {
namespace {

// Those of nested tuples one after the other.
void add_leaves(const HloSharding& sharding, std::vector<HloSharding>& leaves) {
  if (sharding.kind != HloSharding::Kind::tuple) return leaves.push_back(sharding);
  for (const HloSharding& element : sharding.elements) add_leaves(element, leaves);
}

bool says_nothing(const Sharding& sharding) {
  return sharding.replicated.empty() &&
         std::all_of(sharding.dims.begin(), sharding.dims.end(),
                     [](const DimSharding& dim) { return dim.open && dim.axes.empty(); });
}

}  // namespace

std::string frontend_attribute(const HloInstruction& instruction, std::string_view name) {
  const auto* attributes = instruction.get<Dictionary>("frontend_attributes");
  const std::string* value = attributes ? attributes->find(name) : nullptr;
  return value ? unquoted(*value) : "";
}

std::map<std::string, NamedMesh> sdy_meshes(const HloModule& module) {
  const std::string* text = module.frontend_attributes.find("xla.sdy.meshes");
  return text ? parse_sdy_meshes(unquoted(*text)) : std::map<std::string, NamedMesh>{};
}

Ints unspecified_dims(const HloInstruction& instruction) {
  const HloAttribute* config = instruction.find("backend_config");
  const auto* text = config ? std::get_if<std::string>(&config->value) : nullptr;
  constexpr std::string_view kKey = "unspecified_dims=[";
  const size_t at = text ? text->find(kKey) : std::string::npos;
  if (at == std::string::npos) return {};
  Ints dims;
  const char* next = text->data() + at + kKey.size();
  const char* const end = text->data() + text->size();
  for (;;) {
    int64_t dim = 0;
    const auto [rest, error] = std::from_chars(next, end, dim);
    if (error != std::errc() || rest == end || (*rest != ',' && *rest != ']'))
      throw_user_error(where(instruction), ": backend_config \"", *text,
                       "\": unspecified_dims is a list of dims such as [0,1]");
    dims.push_back(dim);
    if (*rest == ']') return dims;
    next = rest + 1;
  }
}

std::vector<StatedSharding> stated_shardings(const HloModule& module,
                                             const HloInstruction& instruction) {
  const std::string sdy = frontend_attribute(instruction, "xla.sdy.sharding");
  std::vector<HloSharding> shardings;
  if (!sdy.empty()) {
    shardings = parse_sdy_shardings(sdy, sdy_meshes(module));
  } else if (const auto* tiles = instruction.get<HloSharding>("sharding")) {
    add_leaves(*tiles, shardings);
  } else {
    return {};
  }
  const size_t leaves = instruction.shape.leaves().size();
  if (shardings.size() == 1 && leaves != 1 && shardings[0].kind != HloSharding::Kind::tiled &&
      shardings[0].kind != HloSharding::Kind::named)
    shardings.resize(leaves, HloSharding(shardings[0]));  // {replicated} of a tuple
  if (shardings.size() != leaves)
    throw_user_error(where(instruction), ": ", shardings.size(), " shardings for ", leaves,
                     leaves == 1 ? " array" : " arrays", " in ", print(instruction.shape, false));
  std::vector<StatedSharding> stated;
  const Ints unspecified = sdy.empty() ? unspecified_dims(instruction) : Ints{};
  for (HloSharding& sharding : shardings)
    stated.push_back({std::move(sharding), unspecified, !sdy.empty()});
  return stated;
}

StatedLying lying_of(const StatedSharding& stated, const TensorType& type, const MeshPtr& mesh) {
  StatedLying lying;
  if (stated.sharding.group)
    lying.groups.push_back(group_of(stated.sharding.group->id, stated.sharding.group->as));
  ConvertedSharding converted =
      convert_sharding(stated.sharding, mesh, type.rank(), stated.unspecified);
  if (!converted.note.empty()) lying.notes.push_back(converted.note);
  if (converted.is_unknown || converted.is_manual || type.rank() == 0) return lying;
  Sharding& sharding = converted.sharding;
  if (!sharding.partial.empty()) {
    lying.notes.push_back("unreduced: where a sum is completed is the partitioner's choice");
    sharding.partial.clear();
  }
  for (DimSharding& dim : sharding.dims) dim.axes = canonical(without(dim.axes, converted.manual));
  sharding.replicated = without(sharding.replicated, converted.manual);
  if (!says_nothing(sharding)) lying.sharding = std::move(sharding);
  return lying;
}

Value same_value(Builder& b, Value x) {
  return b.emit(ops::kConvert, {x}, {{Attr::dtype, b.dtype(x)}});
}

ShardingGroup group_of(int64_t id, bool is_as) {
  constexpr int64_t kMost = int64_t{1} << 60;
  if (id < 0 || id >= kMost) throw_user_error("sharding group ", id, ": ids are from 0 to 2^60");
  return {2 * id + (is_as ? 0 : 1), is_as ? ShardingGroup::Kind::as : ShardingGroup::Kind::like};
}

}  // namespace tessera::hlo
