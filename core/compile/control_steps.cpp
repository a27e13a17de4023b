// Loops, branches and calls as nodes of a step graph.
//
// A carried value keeps one place over all turns: result i of a loop lies where its operand i lay,
// if nobody else needs that, and the body's output i must overwrite the body's input i, by the same
// rules as a parameter. What no turn changes is a view of its operand and costs nothing. A branch's
// result lies over an operand in the same way where some arm hands that operand on or an output of
// the graph asks for it; else each arm writes it into a new buffer.
#include <algorithm>

#include "core/compile/step_graph_builder.h"
#include "core/ops/control.h"

namespace tessera {
namespace {

bool is_loop(const Instruction& instruction) { return instruction.is(ops::kWhile); }

// Input `i` of the region that its output `output` is, or -1.
int handed_through(const Graph& region, size_t output) {
  const Value value = region.outputs[output].value;
  for (size_t i = 0; i < region.inputs.size(); ++i)
    if (region.inputs[i].value == value) return static_cast<int>(i);
  return -1;
}

bool has_collectives(const StepGraph& steps) {
  return std::any_of(steps.nodes.begin(), steps.nodes.end(), [](const StepNode& node) {
    return node.kind == StepNode::Kind::collective || (node.control && node.control->communicates);
  });
}

}  // namespace

bool is_control(const Instruction& instruction) {
  return instruction.is(ops::kWhile) || instruction.is(ops::kCase) || instruction.is(ops::kCall);
}

void StepGraphBuilder::add_region(ControlSteps& control, const GraphRef& graph, std::string role,
                                  std::vector<int> over, bool own_outputs) {
  StepGraph steps = StepGraphBuilder(*graph, kernels_, std::move(over), own_outputs).build();
  control.communicates = control.communicates || has_collectives(steps);
  control.regions.push_back({std::move(steps), graph, std::move(role)});
}

void StepGraphBuilder::make_loop(ControlSteps& control, const Instruction& instruction) {
  const size_t count = instruction.results.size();
  std::vector<int> over(count);
  for (size_t r = 0; r < count; ++r) over[r] = static_cast<int>(r);
  control.is_loop = true;
  control.carried = over;
  control.trip_count = instruction.attributes.get_or<int64_t>(Attr::trip_count, -1);
  add_region(control, instruction.attributes.get<GraphRef>(Attr::body), "body", over, false);
  if (control.trip_count < 0)
    add_region(control, instruction.attributes.get<GraphRef>(Attr::condition), "condition", {-1},
               false);
}

// Which region input each result of a branch lies over.
void StepGraphBuilder::choose_carried(ControlSteps& control, const Instruction& instruction,
                                      int index) const {
  const size_t first = control.has_index ? 1 : 0;
  control.carried.assign(instruction.results.size(), -1);
  std::vector<bool> taken(instruction.operands.size() - first, false);
  auto carry = [&](size_t result, int input) {
    const Value operand = instruction.operands[static_cast<size_t>(input) + first];
    if (taken[static_cast<size_t>(input)] || control.carried[result] >= 0 ||
        graph_.type(operand) != instruction.results[result].type)
      return;
    taken[static_cast<size_t>(input)] = true;
    control.carried[result] = input;
  };
  for (size_t o = 0; o < graph_.outputs.size(); ++o) {
    const Value value = graph_.outputs[o].value;
    if (value.instruction != index || over_[o] < 0) continue;
    for (size_t i = first; i < instruction.operands.size(); ++i)
      if (instruction.operands[i] == graph_.inputs[static_cast<size_t>(over_[o])].value)
        carry(static_cast<size_t>(value.result), static_cast<int>(i - first));
  }
  Graphs arms;
  if (control.has_index)
    arms = instruction.attributes.get<Graphs>(Attr::branches);
  else
    arms = {instruction.attributes.get<GraphRef>(Attr::callee)};
  for (const GraphRef& arm : arms)
    for (size_t r = 0; r < instruction.results.size(); ++r)
      if (const int input = handed_through(*arm, r); input >= 0) carry(r, input);
}

void StepGraphBuilder::make_branch(ControlSteps& control, int index) {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  control.has_index = instruction.is(ops::kCase);
  choose_carried(control, instruction, index);
  if (!control.has_index) {
    add_region(control, instruction.attributes.get<GraphRef>(Attr::callee), "callee",
               control.carried, true);
    return;
  }
  const Graphs& arms = instruction.attributes.get<Graphs>(Attr::branches);
  for (size_t a = 0; a < arms.size(); ++a)
    add_region(control, arms[a], cat("branch ", a), control.carried, true);
}

void StepGraphBuilder::make_control(int index) {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  auto control = std::make_shared<ControlSteps>();
  if (is_loop(instruction))
    make_loop(*control, instruction);
  else
    make_branch(*control, index);
  const size_t first = control->has_index ? 1 : 0;
  const size_t bodies = control->is_loop ? 1 : control->regions.size();
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    const int input = control->carried[r];
    bool unchanged = input >= 0;
    for (size_t a = 0; a < bodies && unchanged; ++a) {
      const StepGraph& steps = control->regions[a].steps;
      const int output = steps.output_buffers[r];
      unchanged = steps.root(output) == steps.input_buffers[static_cast<size_t>(input)] &&
                  handed_through(*control->regions[a].graph, r) == input;
    }
    control->unchanged.push_back(unchanged);
    if (!unchanged) continue;
    BufferPlan& plan = buffer(first_buffer_[static_cast<size_t>(index)] + static_cast<int>(r));
    plan.alias_of = buffer_of(instruction.operands[static_cast<size_t>(input) + first]);
    plan.alias = AliasKind::view;
  }
  controls_[static_cast<size_t>(index)] = std::move(control);
}

// Results are their operands; what orders its two sides is add_sources().
void StepGraphBuilder::make_barrier(int index) {
  const Instruction& instruction = graph_.instructions[static_cast<size_t>(index)];
  barrier_.resize(made_.buffers.size(), -1);
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    const int number = first_buffer_[static_cast<size_t>(index)] + static_cast<int>(r);
    barrier_[static_cast<size_t>(number)] = index;
    buffer(number).alias_of = buffer_of(instruction.operands[r]);
    buffer(number).alias = AliasKind::view;
  }
}

int StepGraphBuilder::carried_operand(const StepNode& control, int result) {
  const auto at = std::find(control.writes.begin(), control.writes.end(), result);
  if (at == control.writes.end()) return -1;
  const int input = control.control->carried[static_cast<size_t>(at - control.writes.begin())];
  return input < 0 ? -1 : input + (control.control->has_index ? 1 : 0);
}

}  // namespace tessera
