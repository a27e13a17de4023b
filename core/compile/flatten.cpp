#include "core/compile/flatten.h"

#include <algorithm>

namespace tessera {
namespace {

class Flattener {
 public:
  explicit Flattener(StepGraph steps) { flat_.steps = std::move(steps); }

  FlatSteps run(const Schedule& schedule) {
    // Nodes of regions are appended behind those of the graph, so that its own numbers stay.
    flat_.report = schedule.report;
    flat_.report.collectives.clear();
    add_actions(schedule, /*node_base=*/0, /*region=*/0, /*turns=*/1);
    return std::move(flat_);
  }

 private:
  BufferPlan& buffer(int number) { return flat_.steps.buffers[static_cast<size_t>(number)]; }
  StepNode& node(int number) { return flat_.steps.nodes[static_cast<size_t>(number)]; }

  void add_actions(const Schedule& schedule, int node_base, int region, double turns) {
    for (const ScheduleReport::Exposed& entry : schedule.report.collectives)
      flat_.report.collectives.push_back({entry.instruction, entry.seconds * turns,
                                          entry.exposed_seconds * turns, region, turns});
    for (size_t a = 0; a < schedule.actions.size(); ++a) {
      for (const LeftInFlight& left : schedule.left)
        if (left.before == a) push(Action::Kind::done, left.node + node_base);
      Action action = schedule.actions[a];
      const auto own = static_cast<size_t>(action.node);
      action.node += node_base;
      if (node(action.node).kind != StepNode::Kind::control)
        flat_.actions.push_back(action);
      else if (node(action.node).control->is_loop)
        add_loop(action.node, schedule.regions[own], turns);
      else
        add_branch(action.node, schedule.regions[own], turns);
    }
  }

  void push(Action::Kind kind, int node, int part = -1, std::vector<int> outputs = {}) {
    Action action{kind, node, part, {}};
    action.outputs = std::move(outputs);
    flat_.actions.push_back(std::move(action));
  }

  void add_loop(int number, const RegionSchedules& inner, double turns) {
    const auto control = node(number).control;
    push(Action::Kind::loop_begin, number);
    if (control->trip_count < 0) {
      const std::vector<int> predicate = add_region(number, 1, inner, turns * (inner.turns + 1));
      push(Action::Kind::loop_test, number, 1, predicate);
    }
    std::vector<int> outputs = add_region(number, 0, inner, turns * inner.turns);
    push(Action::Kind::loop_end, number, 0, std::move(outputs));
    for (const LeftInFlight& left : inner.schedules[0].left)
      flat_.actions.back().in_flight.push_back(left.node + body_base_);
    const std::vector<int> in_flight = flat_.actions.back().in_flight;
    for (int left : in_flight) push(Action::Kind::done, left);
  }

  void add_branch(int number, const RegionSchedules& inner, double turns) {
    const auto control = node(number).control;
    push(Action::Kind::branch_begin, number);
    for (size_t a = 0; a < control->regions.size(); ++a) {
      const bool counts = static_cast<int>(a) == inner.slowest;
      std::vector<int> outputs = add_region(number, a, inner, counts ? turns : 0);
      push(Action::Kind::arm_end, number, static_cast<int>(a), std::move(outputs));
    }
  }

  int communicator(const AxisList& axes) {
    std::vector<AxisList>& all = flat_.steps.communicators;
    const auto at = std::find(all.begin(), all.end(), axes);
    if (at != all.end()) return static_cast<int>(at - all.begin());
    all.push_back(axes);
    return static_cast<int>(all.size()) - 1;
  }

  // Returns the buffers of the region's outputs.
  std::vector<int> add_region(int number, size_t which, const RegionSchedules& inner,
                              double turns) {
    const auto control = node(number).control;
    const ControlSteps::Region& from = control->regions[which];
    flat_.steps.regions.push_back(
        {from.graph, node(number).region, node(number).instruction, from.role});
    const int region = static_cast<int>(flat_.steps.regions.size());
    const int buffers = add_buffers(number, *control, from.steps);
    const int nodes = add_nodes(from.steps, region, buffers);
    for (Executable::Constant constant : from.steps.constants)
      flat_.steps.constants.push_back(
          {constant.instruction, constant.buffer + buffers, region});
    for (const Executable::Fallback& fallback : from.steps.reference_kernels)
      flat_.steps.reference_kernels.push_back({fallback.instruction, fallback.refusals, region});
    flat_.steps.copies += from.steps.copies;
    std::vector<int> outputs = place_outputs(number, *control, which, buffers);
    add_actions(inner.schedules[which], nodes, region, turns);
    body_base_ = nodes;  // those of regions inside have been
    return outputs;
  }

  int add_buffers(int number, const ControlSteps& control, const StepGraph& from) {
    const int base = static_cast<int>(flat_.steps.buffers.size());
    for (BufferPlan plan : from.buffers) {
      if (plan.alias_of >= 0) plan.alias_of += base;
      plan.output = -1;
      if (plan.input >= 0) {
        plan.alias_of = source_of(number, control, plan.input);
        plan.alias = AliasKind::view;
        plan.arena = Arena::scratch;  // the root's counts
        plan.input = -1;
      }
      flat_.steps.buffers.push_back(std::move(plan));
    }
    return base;
  }

  // Where input `input` of a region lies.
  int source_of(int number, const ControlSteps& control, int input) {
    const auto carried = std::find(control.carried.begin(), control.carried.end(), input);
    if (carried != control.carried.end())
      return node(number).writes[static_cast<size_t>(carried - control.carried.begin())];
    return node(number).reads[static_cast<size_t>(input) + (control.has_index ? 1 : 0)];
  }

  int add_nodes(const StepGraph& from, int region, int buffers) {
    const int base = static_cast<int>(flat_.steps.nodes.size());
    for (StepNode copy : from.nodes) {
      for (int& read : copy.reads) read += buffers;
      for (int& written : copy.writes) written += buffers;
      if (copy.kind == StepNode::Kind::collective)
        copy.communicator = communicator(from.communicators[static_cast<size_t>(copy.communicator)]);
      for (int& before : copy.before) before += base;
      copy.region = region;
      flat_.steps.nodes.push_back(std::move(copy));
    }
    return base;
  }

  std::vector<int> place_outputs(int number, const ControlSteps& control, size_t which,
                                 int buffers) {
    std::vector<int> outputs;
    for (int output : control.regions[which].steps.output_buffers)
      outputs.push_back(output + buffers);
    if (control.is_loop) return outputs;
    for (size_t r = 0; r < outputs.size(); ++r) {
      if (control.carried[r] >= 0) continue;
      BufferPlan& root = buffer(flat_.steps.root(outputs[r]));
      root.alias_of = node(number).writes[r];
      root.alias = AliasKind::overwrite;
    }
    return outputs;
  }

  FlatSteps flat_;
  int body_base_ = 0;  // first node of the region added last
};

}  // namespace

FlatSteps flatten(StepGraph steps, const Schedule& schedule) {
  return Flattener(std::move(steps)).run(schedule);
}

}  // namespace tessera
