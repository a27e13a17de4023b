#include "core/compile/compile.h"

#include <map>

#include "core/compile/flatten.h"
#include "core/compile/memory_plan.h"
#include "core/compile/plan_checker.h"
#include "core/compile/step_graph.h"
#include "core/compile/uniform_control.h"
#include "core/passes/keep_weights.h"

namespace tessera {
namespace {

Step make_step(const StepNode& node) {
  switch (node.kind) {
    case StepNode::Kind::kernel:
      return KernelStep{node.instruction, node.kernel,    node.reads,
                        node.writes,      node.workspace, node.region};
    case StepNode::Kind::rank_data:
      return RankDataStep{node.instruction, node.reads.empty() ? -1 : node.reads[0],
                          node.writes[0], node.region};
    case StepNode::Kind::copy:
      return CopyStep{node.reads[0], node.writes[0]};
    case StepNode::Kind::collective:
    case StepNode::Kind::control:
      break;
  }
  return CollectiveStart{node.instruction, node.communicator, node.collective,
                         node.reads[0],    node.writes[0],    node.region};
}

// The steps of a flat program, with the markers of its loops and branches.
class StepWriter {
 public:
  explicit StepWriter(const FlatSteps& flat) : flat_(flat) {}

  std::vector<Step> run() {
    begin_.assign(flat_.steps.nodes.size(), -1);
    for (const Action& action : flat_.actions) add(action);
    return std::move(made_);
  }

 private:
  static size_t at(int index) { return static_cast<size_t>(index); }

  void add(const Action& action) {
    const StepNode& node = flat_.steps.nodes[at(action.node)];
    int& begin = begin_[at(action.node)];
    const int here = static_cast<int>(made_.size());
    if (begin >= 0) {
      note_arm(begin);
      if (auto* loop = std::get_if<LoopBegin>(&made_[at(begin)])) loop->end_step = here;
      if (auto* branch = std::get_if<BranchBegin>(&made_[at(begin)])) branch->end_step = here;
    }
    switch (action.kind) {
      case Action::Kind::done:
        if (begin < 0) early_[action.node] = here;  // of the turn before: its start comes
        made_.push_back(CollectiveDone{begin});
        return;
      case Action::Kind::loop_test:
        made_.push_back(LoopTest{begin, action.outputs[0]});
        return;
      case Action::Kind::loop_end:
        made_.push_back(LoopEnd{begin, handed_on(action.outputs, node.writes), {}});
        for (int left : action.in_flight)
          std::get<LoopEnd>(made_.back()).in_flight.push_back(begin_[at(left)]);
        return;
      case Action::Kind::arm_end:
        made_.push_back(ArmEnd{begin, handed_on(action.outputs, node.writes)});
        return;
      case Action::Kind::loop_begin:
        made_.push_back(LoopBegin{node.instruction, node.region, node.control->trip_count,
                                  carried_by(node), -1, node.control->communicates});
        break;
      case Action::Kind::branch_begin:
        made_.push_back(BranchBegin{node.instruction, node.region,
                                    node.control->has_index ? node.reads[0] : -1, carried_by(node),
                                    {here + 1}, -1, node.control->communicates});
        break;
      case Action::Kind::run:
      case Action::Kind::start:
        made_.push_back(make_step(node));
        if (const auto early = early_.find(action.node); early != early_.end())
          std::get<CollectiveDone>(made_[at(early->second)]).start_step = here;
        break;
    }
    begin = here;
  }

  // Where an arm has ended, the next one begins.
  void note_arm(int begin) {
    auto* branch = std::get_if<BranchBegin>(&made_[at(begin)]);
    if (branch && branch->end_step >= 0) branch->arm_steps.push_back(branch->end_step + 1);
  }

  static std::vector<HandedOn> handed_on(const std::vector<int>& from, const std::vector<int>& to) {
    std::vector<HandedOn> pairs;
    for (size_t i = 0; i < from.size(); ++i) pairs.push_back({from[i], to[i]});
    return pairs;
  }

  static std::vector<HandedOn> carried_by(const StepNode& node) {
    const ControlSteps& control = *node.control;
    std::vector<HandedOn> pairs;
    for (size_t r = 0; r < control.carried.size(); ++r)
      if (control.carried[r] >= 0)
        pairs.push_back(
            {node.reads[at(control.carried[r]) + (control.has_index ? 1 : 0)], node.writes[r]});
    return pairs;
  }

  const FlatSteps& flat_;
  std::vector<Step> made_;
  std::vector<int> begin_;    // node -> its first step
  std::map<int, int> early_;  // node -> a wait for it that stands before its start
};

// What a loop or branch begins with lies elsewhere, and is not a constant: its memory was needed on.
int carried_copies(const std::vector<Step>& steps, const std::vector<BufferPlan>& buffers) {
  int copies = 0;
  auto count = [&](const std::vector<HandedOn>& carried) {
    for (const HandedOn& pair : carried) {
      const BufferPlan &from = buffers[static_cast<size_t>(pair.from)],
                       &to = buffers[static_cast<size_t>(pair.to)];
      const bool same =
          from.arena == to.arena && from.offset == to.offset && from.input == to.input;
      if (!same && from.arena != Arena::constant) ++copies;
    }
  };
  for (const Step& step : steps) {
    if (const auto* loop = std::get_if<LoopBegin>(&step)) count(loop->carried);
    if (const auto* branch = std::get_if<BranchBegin>(&step)) count(branch->carried);
  }
  return copies;
}

Executable compile_as_is(Graph graph, const KernelTable& kernels, const CompileOptions& options) {
  Executable executable;
  StepGraph built = build_step_graph(graph, kernels);
  const Schedule schedule = schedule_steps(built, graph, options.cost, options.schedule);
  FlatSteps flat = flatten(std::move(built), schedule);
  StepGraph& steps = flat.steps;
  executable.memory = plan_memory(steps, graph, flat.actions);
  executable.steps = StepWriter(flat).run();
  executable.copies = steps.copies + carried_copies(executable.steps, steps.buffers);
  executable.schedule = std::move(flat.report);
  executable.graph = std::move(graph);
  executable.regions = std::move(steps.regions);
  executable.buffers = std::move(steps.buffers);
  executable.communicators = std::move(steps.communicators);
  executable.input_buffers = std::move(steps.input_buffers);
  executable.output_buffers = std::move(steps.output_buffers);
  executable.constants = std::move(steps.constants);
  executable.reference_kernels = std::move(steps.reference_kernels);
  check_plan(executable);
  return executable;
}

// Keeps as many gathered weights as memory allows: a search over their bytes, a few plans long.
Executable with_kept_weights(const Graph& graph, Executable leanest, const KernelTable& kernels,
                             const CompileOptions& options) {
  constexpr int kParts = 16;
  const int64_t all = bytes_of_regathered_weights(graph);
  if (all == 0) return leanest;
  Executable best = std::move(leanest);
  int fits = 0, too_much = kParts + 1;
  while (too_much - fits > 1) {
    const int part = fits == 0 && too_much > kParts ? kParts : (fits + too_much) / 2;
    Executable made = compile_as_is(keep_weights(graph, all * part / kParts), kernels, options);
    if (made.memory.peak_bytes() > options.memory_bytes) {
      too_much = part;
      continue;
    }
    fits = part;
    if (made.schedule.step_seconds < best.schedule.step_seconds) best = std::move(made);
  }
  return best;
}

}  // namespace

Executable compile(Graph graph, const KernelTable& kernels, const CompileOptions& options) {
  check_uniform_control(graph);
  if (options.memory_bytes <= 0) return compile_as_is(std::move(graph), kernels, options);
  Executable made = compile_as_is(graph, kernels, options);
  if (made.memory.peak_bytes() >= options.memory_bytes) return made;
  return with_kept_weights(graph, std::move(made), kernels, options);
}

std::string describe_step(const Executable& executable, int region, int instruction) {
  std::string text = describe(executable.graph_of(region), {instruction, 0});
  while (region > 0) {
    const RegionPlan& plan = executable.regions[static_cast<size_t>(region) - 1];
    text += cat(" in the ", plan.role, " of ",
                describe(executable.graph_of(plan.parent), {plan.instruction, 0}));
    region = plan.parent;
  }
  return text;
}

}  // namespace tessera
