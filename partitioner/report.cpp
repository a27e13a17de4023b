#include "partitioner/report.h"

#include <map>
#include <optional>

#include "core/base/error.h"
#include "core/ops/sharding.h"
#include "partitioner/explain.h"
#include "partitioner/regions.h"
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

void report_shardings(const Graph& propagated, const Origins& origins, PartitionReport& report) {
  const std::vector<std::vector<std::string>> names = tensor_names(propagated);
  for (size_t i = 0; i < names.size(); ++i)
    for (size_t r = 0; r < names[i].size(); ++r) {
      if (names[i][r].empty()) continue;
      const ResultInfo& info = propagated.instructions[i].results[r];
      const Value value{static_cast<int>(i), static_cast<int>(r)};
      report.shardings.push_back({cat(names[i][r], " ", info.type), cat(info.sharding->closed()),
                                  origins.explain(propagated, value)});
    }
}

namespace {

using Summaries = std::map<std::pair<std::string, std::string>, CollectiveSummary>;

// `turns`: how often the graph runs; loops of unknown length count once.
void count_collectives(const Graph& local, const MachineModel& machine, int64_t turns,
                       Summaries& collectives, PartitionReport& report) {
  for (const Instruction& instruction : local.instructions) {
    for (const Region& region : control_regions(instruction))
      count_collectives(*region.graph, machine,
                        turns * instruction.attributes.get_or<int64_t>(Attr::trip_count, 1),
                        collectives, report);
    const std::optional<MoveKind> kind = kind_of(instruction.op);
    if (!kind) continue;
    const AxisList axes = instruction.attributes.get<AxisList>(Attr::axes);
    CollectiveSummary& summary =
        collectives[{std::string(instruction.op->name), print_axes(*local.mesh, axes)}];
    summary.op = instruction.op->name;
    summary.axes = print_axes(*local.mesh, axes);
    for (const AxisRef& axis : axes)
      summary.crosses_hosts = summary.crosses_hosts || machine.crosses_hosts(*local.mesh, axis);
    summary.count += turns;
    for (Value operand : instruction.operands) {
      summary.bytes += turns * local.type(operand).bytes();
      report.wire_bytes += static_cast<double>(turns) *
                           wire_bytes(*kind, local.type(operand).bytes(), size_of(axes));
    }
  }
}

}  // namespace

void report_program(const Graph& local, const MachineModel& machine, PartitionReport& report) {
  Summaries collectives;
  count_collectives(local, machine, 1, collectives, report);
  for (auto& [key, summary] : collectives) report.collectives.push_back(std::move(summary));
  std::map<InputKind, int64_t> memory;
  for (const GraphInput& input : local.inputs)
    memory[input.kind] += local.type(input.value).bytes();
  for (const auto& [kind, bytes] : memory)
    report.memory_per_device.emplace_back(name_of(kind), bytes);
}

}  // namespace tessera
