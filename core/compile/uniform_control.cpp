#include "core/compile/uniform_control.h"

#include <algorithm>
#include <set>
#include <string>

#include "core/compile/views.h"
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"

namespace tessera {
namespace {

using Axes = std::set<int>;  // numbers of mesh axes

void add(Axes& to, const Axes& from) { to.insert(from.begin(), from.end()); }
void add(Axes& to, const AxisList& from) {
  for (const AxisRef& ref : from)
    if (ref.size > 1) to.insert(ref.axis);
}
void remove(Axes& from, const AxisList& axes) {
  for (const AxisRef& ref : axes) from.erase(ref.axis);
}

// The first collective inside whose axes meet `axes`; null where there is none.
const Instruction* collective_along(const Graph& graph, const Axes& axes) {
  for (const Instruction& instruction : graph.instructions) {
    if (instruction.op->communicates && !is_trivial_collective(instruction)) {
      for (const AxisRef& ref : instruction.attributes.get<AxisList>(Attr::axes))
        if (ref.size > 1 && axes.contains(ref.axis)) return &instruction;
      if (const AttrValue* targets = instruction.attributes.find(Attr::target_axes))
        for (const AxisRef& ref : std::get<AxisList>(*targets))
          if (ref.size > 1 && axes.contains(ref.axis)) return &instruction;
    }
    for (const Region& region : control_regions(instruction))
      if (const Instruction* found = collective_along(*region.graph, axes)) return found;
  }
  return nullptr;
}

class Checker {
 public:
  // `inputs`: along which axes each input may differ. Returns the same of the outputs.
  std::vector<Axes> run(const Graph& graph, const std::vector<Axes>& inputs) {
    std::vector<std::vector<Axes>> values;
    auto of = [&](Value value) -> const Axes& {
      return values[static_cast<size_t>(value.instruction)][static_cast<size_t>(value.result)];
    };
    for (size_t i = 0; i < graph.instructions.size(); ++i) {
      const Instruction& instruction = graph.instructions[i];
      std::vector<Axes> operands;
      for (Value operand : instruction.operands) operands.push_back(of(operand));
      std::vector<Axes> results;
      if (instruction.op->has_state)
        results = {inputs[static_cast<size_t>(instruction.attributes.integer(Attr::index))]};
      else if (has_control_flow(instruction))
        results = through_regions(graph, static_cast<int>(i), operands);
      else
        results.assign(instruction.results.size(), through(instruction, operands));
      for (size_t r = 0; r < results.size(); ++r)
        if (const auto& sharding = instruction.results[r].sharding;
            sharding && graph.mesh && sharding->is_for(*graph.mesh))
          results[r] = named_by(*sharding);
      values.push_back(std::move(results));
    }
    std::vector<Axes> outputs;
    for (const GraphOutput& output : graph.outputs) outputs.push_back(of(output.value));
    return outputs;
  }

  static Axes named_by(const Sharding& sharding) {
    Axes axes;
    for (const auto& dim : sharding.dims) add(axes, dim.axes);
    add(axes, sharding.partial);
    return axes;
  }

 private:
  static Axes through(const Instruction& instruction, const std::vector<Axes>& operands) {
    Axes axes;
    for (const Axes& operand : operands) add(axes, operand);
    const AttrValue* found = instruction.attributes.find(Attr::axes);
    if (!found) return axes;
    const AxisList& own = std::get<AxisList>(*found);
    if (instruction.is(ops::kAllReduce) || instruction.is(ops::kAllGather))
      remove(axes, own);
    else if (instruction.is(ops::kCollectivePermute))
      add_relabelled(axes, instruction);
    else if (instruction.is(ops::kShift) && instruction.attributes.flag(Attr::wrap))
      return axes;
    else
      add(axes, own);
    return axes;
  }

  // What differs along a source differs along its target afterwards; zeros differ from all.
  static void add_relabelled(Axes& axes, const Instruction& permute) {
    const auto& from = permute.attributes.get<AxisList>(Attr::axes);
    const auto to = permute.attributes.get_or<AxisList>(Attr::target_axes, from);
    const auto sources = permute.attributes.get_or<Ints>(Attr::sources, {});
    bool differs = std::count(sources.begin(), sources.end(), -1) > 0;
    for (const AxisList* list : {&from, &to})
      for (const AxisRef& ref : *list) differs = differs || axes.contains(ref.axis);
    if (!differs) return;
    add(axes, from);
    add(axes, to);
  }

  std::vector<Axes> through_regions(const Graph& graph, int index,
                                    const std::vector<Axes>& operands) {
    const Instruction& instruction = graph.instructions[static_cast<size_t>(index)];
    const auto region = [&](Attr key) -> const Graph& {
      return *instruction.attributes.get<GraphRef>(key);
    };
    if (!instruction.is(ops::kCase) && !instruction.is(ops::kWhile))
      return run(region(Attr::callee), operands);
    if (instruction.is(ops::kCase)) {
      check(graph, index, operands[0]);
      const std::vector<Axes> inputs(operands.begin() + 1, operands.end());
      std::vector<Axes> results(instruction.results.size(), operands[0]);
      for (const GraphRef& branch : instruction.attributes.get<Graphs>(Attr::branches)) {
        const std::vector<Axes> outputs = run(*branch, inputs);
        for (size_t r = 0; r < results.size(); ++r) add(results[r], outputs[r]);
      }
      return results;
    }
    // A loop: until no turn adds an axis.
    std::vector<Axes> carried = operands;
    while (true) {
      std::vector<Axes> next = carried;
      Axes predicate;
      if (!instruction.attributes.has(Attr::trip_count)) 
        predicate = run(region(Attr::condition), carried)[0];
      const std::vector<Axes> outputs = run(region(Attr::body), carried);
      for (size_t r = 0; r < next.size(); ++r) {
        add(next[r], outputs[r]);
        add(next[r], predicate);
      }
      if (next == carried) {
        check(graph, index, predicate);
        return carried;
      }
      carried = std::move(next);
    }
  }

  static void check(const Graph& graph, int index, const Axes& differs) {
    if (differs.empty()) return;
    const Instruction& instruction = graph.instructions[static_cast<size_t>(index)];
    for (const Region& region : control_regions(instruction)) {
      const Instruction* collective = collective_along(*region.graph, differs);
      if (!collective) continue;
      std::string names;
      for (int axis : differs)
        names += cat(names.empty() ? "" : ", ", graph.mesh->axes()[static_cast<size_t>(axis)].name);
      throw_user_error(describe(graph, {index, 0}), ": the ",
                       instruction.is(ops::kWhile) ? "predicate" : "index",
                       " may differ along mesh axis ", names, ", but ", collective->op->name,
                       " inside needs all devices along it: reduce the ",
                       instruction.is(ops::kWhile) ? "predicate" : "index",
                       " over that axis first, or take the collective out");
    }
  }
};

}  // namespace

void check_uniform_control(const Graph& local) {
  if (!local.mesh) return;
  std::vector<Axes> inputs;
  for (const GraphInput& input : local.inputs) {
    Axes axes;
    if (const auto& sharding = local.info(input.value).sharding) {
      axes = Checker::named_by(*sharding);
    } else {
      for (size_t a = 0; a < local.mesh->axes().size(); ++a) axes.insert(static_cast<int>(a));
    }
    inputs.push_back(std::move(axes));
  }
  Checker().run(local, inputs);
}

}  // namespace tessera
