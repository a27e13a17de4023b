// Every collective runs along axes that are manual where it stands, in each of the regions that
// come to its computation.
#include <algorithm>
#include <map>
#include <set>

#include "core/base/error.h"
#include "partitioner/hlo/collective_groups.h"
#include "partitioner/hlo/device_moves.h"
#include "partitioner/hlo/manual_axes.h"
#include "partitioner/hlo/manual_regions.h"

namespace tessera::hlo {
namespace {

constexpr std::string_view kReductions[] = {"all-reduce", "reduce-scatter"};
constexpr std::string_view kGrouped[] = {"all-reduce", "all-gather", "reduce-scatter",
                                         "all-to-all"};

template <size_t kCount>
bool is_one_of(const std::string& opcode, const std::string_view (&list)[kCount]) {
  return std::find(std::begin(list), std::end(list), opcode) != std::end(list);
}

class Checker {
 public:
  Checker(const HloModule& module, const MeshPtr& mesh)
      : module_(module), mesh_(mesh), own_(own_devices(own_mesh(module, mesh), mesh)) {
    for (size_t c = 0; c < module.computations.size(); ++c)
      number_of_.emplace(module.computations[c].name, static_cast<int>(c));
  }

  void run() {
    open_.push_back({module_.entry, {}});
    while (!open_.empty()) {
      const auto place = open_.back();
      open_.pop_back();
      if (!seen_.insert(place).second) continue;
      for (const HloInstruction& instruction :
           module_.computations[static_cast<size_t>(place.first)].instructions)
        visit(instruction, place.second);
    }
  }

 private:
  void visit(const HloInstruction& instruction, const AxisList& manual) {
    const AxisList along = axes_of(instruction);
    if (const AxisList free = without(along, manual); !free.empty())
      refuse(instruction, manual, free);
    AxisList inside = manual;
    if (is_custom_call(instruction, kManualCall)) {
      for (AxisRef axis : manual_axes_of(instruction, mesh_).own) inside.push_back(axis);
      std::sort(inside.begin(), inside.end());
    }
    for (const std::string& callee : called_by(instruction))
      if (const auto found = number_of_.find(callee); found != number_of_.end())
        open_.emplace_back(found->second, inside);
  }

  AxisList axes_of(const HloInstruction& instruction) const {
    if (is_one_of(instruction.opcode, kGrouped))
      return axes_of_replica_groups(own_, instruction, is_one_of(instruction.opcode, kReductions));
    if (instruction.opcode == "partition-id") return own_.all_axes();
    if (instruction.opcode != "collective-permute" && instruction.opcode != "collective-broadcast")
      return {};
    return own_.in_program(find_move(senders(own_, instruction), own_.mesh).axes);
  }

  [[noreturn]] void refuse(const HloInstruction& instruction, const AxisList& manual,
                           const AxisList& free) const {
    const auto* groups = instruction.get<ReplicaGroups>("replica_groups");
    throw_user_error(where(instruction), ": ", instruction.opcode,
                     groups ? cat(" with replica_groups=", print(*groups)) : "", " runs along {",
                     print_axes(*mesh_, free), "} of the mesh ", *mesh_, ", but manual are only {",
                     print_axes(*mesh_, manual), "} there");
  }

  const HloModule& module_;
  const MeshPtr& mesh_;
  const OwnDevices own_;
  std::map<std::string, int, std::less<>> number_of_;
  std::vector<std::pair<int, AxisList>> open_;
  std::set<std::pair<int, AxisList>> seen_;
};

}  // namespace

void check_collective_axes(const HloModule& module, const MeshPtr& mesh) {
  Checker(module, mesh).run();
}

}  // namespace tessera::hlo
