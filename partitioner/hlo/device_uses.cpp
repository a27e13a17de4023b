#include "partitioner/hlo/device_uses.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/error.h"
#include "partitioner/hlo/attributes.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/sdy.h"

namespace tessera::hlo {
namespace {

class Collector {
 public:
  explicit Collector(const HloModule& module) : module_(module) {
    if (const std::string* meshes = module.frontend_attributes.find("xla.sdy.meshes"))
      declared_ = parse_sdy_meshes(unquoted(*meshes));
  }

  DeviceUses collect() {
    for (const auto& [name, mesh] : declared_) add_mesh(mesh, 0);
    uses_.devices = 1;  // what is only declared says nothing of the program
    for (const HloComputation& computation : module_.computations)
      for (const HloInstruction& instruction : computation.instructions)
        for (const HloAttribute& attribute : instruction.attributes) add_attribute(attribute);
    return std::move(uses_);
  }

 private:
  void add_attribute(const HloAttribute& attribute) {
    if (const auto* sharding = std::get_if<HloSharding>(&attribute.value)) {
      add_sharding(*sharding);
    } else if (const auto* groups = std::get_if<ReplicaGroups>(&attribute.value)) {
      add_groups(*groups);
    } else if (const auto* pairs = std::get_if<IntLists>(&attribute.value)) {
      if (attribute.name == "source_target_pairs")
        for (const Ints& pair : pairs->lists)
          for (const int64_t device : pair) uses_.highest = std::max(uses_.highest, device + 1);
    } else if (const auto* entries = std::get_if<Dictionary>(&attribute.value)) {
      if (attribute.name == "frontend_attributes")
        add_frontend_attributes(*entries, attribute.line);
    }
  }

  void add_frontend_attributes(const Dictionary& entries, int line) {
    for (const auto& [key, value] : entries.entries) {
      if (key != "xla.sdy.sharding" && key != "xla.sdy.in_shardings" &&
          key != "xla.sdy.out_shardings")
        continue;
      if (!seen_texts_.emplace(value, 0).second) continue;
      try {
        for (const HloSharding& sharding : parse_sdy_shardings(unquoted(value), declared_))
          add_sharding(sharding);
      } catch (const UserError& error) {
        throw_user_error("line ", line, ": ", error.what());
      }
    }
  }

  void add_sharding(const HloSharding& sharding) {
    for (const HloSharding& element : sharding.elements) add_sharding(element);
    add_mesh(sharding.mesh, 1);
    if (sharding.kind == HloSharding::Kind::tiled) add_arrangement(print(sharding), sharding);
  }

  void add_arrangement(const std::string& text, const HloSharding& sharding) {
    const auto [found, is_new] = seen_texts_.emplace(text, uses_.arrangements.size());
    if (is_new && !add_arrangement(arrangement_of(sharding))) found->second = kNone;
    if (!is_new && found->second != kNone) ++uses_.arrangement_uses[found->second];
  }

  // Not those that name devices beyond their number, which are refused where they are converted.
  bool add_arrangement(Arrangement arrangement) {
    const DeviceList& devices = arrangement.devices;
    if (!devices.is_iota &&
        *std::max_element(devices.list.begin(), devices.list.end()) >= devices.devices())
      return false;
    count(devices.devices());
    uses_.arrangements.push_back(std::move(arrangement));
    uses_.arrangement_uses.push_back(1);
    return true;
  }

  void add_groups(const ReplicaGroups& groups) {
    if (groups.kind == ReplicaGroups::Kind::named) return add_mesh(*groups.mesh, 0);
    if (!seen_texts_.emplace(print(groups), 0).second) return;
    if (groups.kind == ReplicaGroups::Kind::iota) {
      add_arrangement({groups.iota, {false, false}});
      return;
    }
    DeviceList devices;
    devices.is_iota = false;
    bool is_even = !groups.lists.empty();
    for (const std::vector<int64_t>& group : groups.lists) {
      for (const int64_t device : group) uses_.highest = std::max(uses_.highest, device + 1);
      devices.list.insert(devices.list.end(), group.begin(), group.end());
      is_even = is_even && group.size() == groups.lists[0].size();
    }
    if (!is_even) return;
    devices.dims = {static_cast<int64_t>(groups.lists.size()),
                    static_cast<int64_t>(groups.lists[0].size())};
    add_arrangement({std::move(devices), {false, false}});
  }

  void add_mesh(const NamedMesh& mesh, int64_t uses) {
    if (mesh.axes.empty()) return;
    count(devices_of(mesh));
    for (NamedMeshUse& known : uses_.meshes)
      if (known.mesh.axes == mesh.axes && known.mesh.device_ids == mesh.device_ids) {
        known.uses += uses;
        return;
      }
    uses_.meshes.push_back({mesh, uses});
  }

  void count(int64_t devices) { uses_.devices = std::max(uses_.devices, devices); }

  static constexpr size_t kNone = static_cast<size_t>(-1);

  const HloModule& module_;
  std::map<std::string, NamedMesh> declared_;
  std::unordered_map<std::string, size_t> seen_texts_;  // -> their arrangement, if any
  DeviceUses uses_;
};

}  // namespace

int64_t devices_of(const NamedMesh& mesh) {
  int64_t devices = 1;
  for (const NamedAxis& axis : mesh.axes) devices *= axis.size;
  return devices;
}

DeviceUses device_uses(const HloModule& module) { return Collector(module).collect(); }

}  // namespace tessera::hlo
