#include "launch/plan/collective_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "partitioner/reshard_search.h"

namespace tessera {
namespace {

constexpr size_t kMostExposed = 10;

MoveKind move_of(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::all_reduce: return MoveKind::all_reduce;
    case CollectiveKind::all_gather: return MoveKind::all_gather;
    case CollectiveKind::reduce_scatter: return MoveKind::reduce_scatter;
    case CollectiveKind::all_to_all: return MoveKind::all_to_all;
    default: return MoveKind::permute;
  }
}

bool any_crosses(const MachineModel& machine, const Mesh& mesh, const AxisList& axes) {
  return std::any_of(axes.begin(), axes.end(),
                     [&](const AxisRef& axis) { return machine.crosses_hosts(mesh, axis); });
}

class Collector {
 public:
  Collector(const Executable& executable, const MachineModel& machine, const std::string& middle_block)
      : executable_(executable), graph_(executable.graph), machine_(machine), middle_block_(middle_block) {
    for (const ScheduleReport::Exposed& entry : executable.schedule.collectives) times_[{entry.region, entry.instruction}] = entry;
  }

  GraphPlan run() {
    GraphPlan plan;
    plan.graph = graph_.name;
    plan.instructions = static_cast<int64_t>(graph_.instructions.size());
    plan.steps = static_cast<int64_t>(executable_.steps.size());
    plan.seconds = executable_.schedule.step_seconds;
    plan.compute_seconds = executable_.schedule.compute_seconds;
    plan.exposed_seconds = executable_.schedule.exposed_communication_seconds;
    for (const Step& step : executable_.steps)
      if (const auto* start = std::get_if<CollectiveStart>(&step)) add(*start);
    for (auto& [key, entry] : entries_) plan.collectives.push_back(std::move(entry));
    std::stable_sort(exposed_.begin(), exposed_.end(), [](const ExposedCollective& a, const ExposedCollective& b) {
      return a.exposed_seconds > b.exposed_seconds;
    });
    if (exposed_.size() > kMostExposed) exposed_.resize(kMostExposed);
    plan.most_exposed = std::move(exposed_);
    return plan;
  }

 private:
  void add(const CollectiveStart& start) {
    const Instruction& instruction = executable_.instruction_of(start.region, start.instruction);
    const AxisList axes = instruction.attributes.get<AxisList>(Attr::axes);
    const std::string axes_text = print_axes(*graph_.mesh, axes);
    CollectivePlan& entry = entries_[{std::string(instruction.op->name), axes_text}];
    entry.op = instruction.op->name;
    entry.axes = axes_text;
    entry.crosses_hosts = any_crosses(machine_, *graph_.mesh, axes);
    // In a loop it is counted once per turn.
    const auto time = times_.find({start.region, start.instruction});
    const int64_t turns = time == times_.end() ? 1 : std::max<int64_t>(1, std::llround(time->second.turns));
    entry.count += turns;
    const bool in_layer = block_of_scope(instruction.scope) == middle_block_ && !middle_block_.empty();
    entry.layer_count += in_layer ? turns : 0;
    for (Value operand : instruction.operands) {
      const int64_t bytes = executable_.graph_of(start.region).type(operand).bytes() * turns;
      entry.bytes += bytes;
      entry.layer_bytes += in_layer ? bytes : 0;
      entry.wire_bytes += wire_bytes(move_of(start.kind), bytes, size_of(axes));
    }
    if (time == times_.end()) return;
    entry.seconds += time->second.seconds;
    entry.exposed_seconds += time->second.exposed_seconds;
    if (time->second.exposed_seconds > 0)
      exposed_.push_back({entry.op, entry.axes, cat(executable_.graph_of(start.region).type(instruction.operands[0])), instruction.scope,
                          time->second.seconds, time->second.exposed_seconds});
  }

  const Executable& executable_;
  const Graph& graph_;
  const MachineModel& machine_;
  const std::string& middle_block_;
  std::map<std::pair<int, int>, ScheduleReport::Exposed> times_;  // by region and instruction
  std::map<std::pair<std::string, std::string>, CollectivePlan> entries_;
  std::vector<ExposedCollective> exposed_;
};

}  // namespace

GraphPlan plan_of_graph(const Executable& executable, const MachineModel& machine,
                        const std::string& middle_block) {
  return Collector(executable, machine, middle_block).run();
}

}  // namespace tessera
