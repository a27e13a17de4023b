#include "core/runtime/timeline.h"

namespace tessera {

HostSpanScope::HostSpanScope(Timeline* timeline, const char* name, int64_t number)
    : timeline_(timeline), span_{.name = name, .number = number} {
  if (timeline_) span_.begin = steady_seconds();
}

HostSpanScope::~HostSpanScope() {
  if (!timeline_) return;
  span_.end = steady_seconds();
  timeline_->host.push_back(span_);
}

StepInstruction instruction_of_step(const Executable& executable, int step) {
  const auto of_start = [&](int start) {
    return instruction_of_step(executable, start);
  };
  const Step& it = executable.steps[static_cast<size_t>(step)];
  if (const auto* kernel = std::get_if<KernelStep>(&it)) return {kernel->region, kernel->instruction};
  if (const auto* start = std::get_if<CollectiveStart>(&it)) return {start->region, start->instruction};
  if (const auto* done = std::get_if<CollectiveDone>(&it)) return of_start(done->start_step);
  if (const auto* data = std::get_if<RankDataStep>(&it)) return {data->region, data->instruction};
  if (const auto* loop = std::get_if<LoopBegin>(&it)) return {loop->region, loop->instruction};
  if (const auto* branch = std::get_if<BranchBegin>(&it)) return {branch->region, branch->instruction};
  if (const auto* test = std::get_if<LoopTest>(&it)) return of_start(test->begin_step);
  if (const auto* end = std::get_if<LoopEnd>(&it)) return of_start(end->begin_step);
  if (const auto* arm = std::get_if<ArmEnd>(&it)) return of_start(arm->begin_step);
  return {};
}

std::string step_title(const Executable& executable, int step) {
  const Step& it = executable.steps[static_cast<size_t>(step)];
  if (const auto* copy = std::get_if<CopyStep>(&it)) {
    const std::string& tensor = executable.buffers[static_cast<size_t>(copy->to)].tensor;
    return tensor.empty() ? "copy" : "copy of " + tensor;
  }
  const auto [region, index] = instruction_of_step(executable, step);
  const Instruction& instruction = executable.instruction_of(region, index);
  std::string title = std::holds_alternative<CollectiveStart>(it)  ? "start "
                      : std::holds_alternative<CollectiveDone>(it) ? "wait "
                      : std::holds_alternative<LoopTest>(it)       ? "test of "
                                                                   : "";
  title += instruction.op->name;
  const std::string& name = instruction.results.empty() ? instruction.scope : instruction.results[0].name;
  const std::string& where = name.empty() ? instruction.scope : name;
  return where.empty() ? title : title + " " + where;
}

}  // namespace tessera
