#include "partitioner/report.h"

#include <map>
#include <optional>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "partitioner/reshard_search.h"

namespace tessera {
namespace {

std::optional<MoveKind> kind_of(const OpDef* op) {
  if (op == &ops::kAllGather) return MoveKind::all_gather;
  if (op == &ops::kAllToAll) return MoveKind::all_to_all;
  if (op == &ops::kCollectivePermute || op == &ops::kShift) return MoveKind::permute;
  if (op == &ops::kAllReduce) return MoveKind::all_reduce;
  if (op == &ops::kReduceScatter) return MoveKind::reduce_scatter;
  return std::nullopt;
}

}  // namespace

namespace {

// A name for an activation that bears only logical axes, of the forward pass: its scope, op and axes
// ("block.0/mlp/add(batch,length,mlp)"), numbered where there are several. "" for all else.
class ActivationNames {
 public:
  std::string name_of(const Instruction& instruction, const ResultInfo& info) {
    if (info.logical_axes.empty() || instruction.recompute || instruction.scope.empty() ||
        instruction.scope.ends_with("backward") || instruction.scope.starts_with("accumulate"))
      return "";
    const std::string name =
        cat(instruction.scope, "/", instruction.op->name, "(", join(info.logical_axes, ","), ")");
    const int number = ++seen_[name];
    return number == 1 ? name : cat(name, "#", number);
  }

 private:
  std::map<std::string, int> seen_;
};

}  // namespace

void report_shardings(const Graph& propagated, const Origins& origins, PartitionReport& report) {
  ActivationNames activations;
  for (size_t i = 0; i < propagated.instructions.size(); ++i)
    for (size_t r = 0; r < propagated.instructions[i].results.size(); ++r) {
      const ResultInfo& info = propagated.instructions[i].results[r];
      const std::string name =
          info.name.empty() ? activations.name_of(propagated.instructions[i], info) : info.name;
      if (name.empty()) continue;
      const Value value{static_cast<int>(i), static_cast<int>(r)};
      report.shardings.push_back({cat(name, " ", info.type), cat(info.sharding->closed()),
                                  origins.explain(propagated, value)});
    }
}

void report_program(const Graph& local, const MachineModel& machine, PartitionReport& report) {
  std::map<std::pair<std::string, std::string>, CollectiveSummary> collectives;
  for (const Instruction& instruction : local.instructions) {
    const std::optional<MoveKind> kind = kind_of(instruction.op);
    if (!kind) continue;
    const AxisList axes = instruction.attributes.get<AxisList>(Attr::axes);
    CollectiveSummary& summary =
        collectives[{std::string(instruction.op->name), print_axes(*local.mesh, axes)}];
    summary.op = instruction.op->name;
    summary.axes = print_axes(*local.mesh, axes);
    for (const AxisRef& axis : axes)
      summary.crosses_hosts = summary.crosses_hosts || machine.crosses_hosts(*local.mesh, axis);
    ++summary.count;
    for (Value operand : instruction.operands) {
      summary.bytes += local.type(operand).bytes();
      report.wire_bytes += wire_bytes(*kind, local.type(operand).bytes(), size_of(axes));
    }
  }
  for (auto& [key, summary] : collectives) report.collectives.push_back(std::move(summary));
  std::map<InputKind, int64_t> memory;
  for (const GraphInput& input : local.inputs)
    memory[input.kind] += local.type(input.value).bytes();
  for (const auto& [kind, bytes] : memory)
    report.memory_per_device.emplace_back(name_of(kind), bytes);
}

}  // namespace tessera
