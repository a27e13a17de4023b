#include "core/compile/compile.h"

#include "core/compile/memory_plan.h"
#include "core/compile/plan_checker.h"
#include "core/compile/step_graph.h"

namespace tessera {
namespace {

Step make_step(const StepNode& node) {
  switch (node.kind) {
    case StepNode::Kind::kernel:
      return KernelStep{node.instruction, node.kernel, node.reads, node.writes, node.workspace};
    case StepNode::Kind::rank_data:
      return RankDataStep{node.instruction, node.reads.empty() ? -1 : node.reads[0],
                          node.writes[0]};
    case StepNode::Kind::copy:
      return CopyStep{node.reads[0], node.writes[0]};
    case StepNode::Kind::collective:
      break;
  }
  return CollectiveStart{node.instruction, node.communicator, node.collective, node.reads[0],
                         node.writes[0]};
}

std::vector<Step> make_steps(const StepGraph& steps, const std::vector<Action>& actions) {
  std::vector<Step> made;
  std::vector<int> started(steps.nodes.size(), -1);
  for (const Action& action : actions) {
    const auto node = static_cast<size_t>(action.node);
    if (action.kind == Action::Kind::done) {
      made.push_back(CollectiveDone{started[node]});
      continue;
    }
    started[node] = static_cast<int>(made.size());
    made.push_back(make_step(steps.nodes[node]));
  }
  return made;
}

}  // namespace

Executable compile(Graph graph, const KernelTable& kernels, const CompileOptions& options) {
  Executable executable;
  StepGraph steps = build_step_graph(graph, kernels);
  Schedule schedule = schedule_steps(steps, graph, options.cost, options.schedule);
  executable.memory = plan_memory(steps, graph, schedule.actions);
  executable.steps = make_steps(steps, schedule.actions);
  executable.schedule = std::move(schedule.report);
  executable.graph = std::move(graph);
  executable.buffers = std::move(steps.buffers);
  executable.communicators = std::move(steps.communicators);
  executable.input_buffers = std::move(steps.input_buffers);
  executable.output_buffers = std::move(steps.output_buffers);
  executable.constants = std::move(steps.constants);
  executable.reference_kernels = std::move(steps.reference_kernels);
  executable.copies = steps.copies;
  check_plan(executable);
  return executable;
}

}  // namespace tessera
