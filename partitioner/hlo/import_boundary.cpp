#include <algorithm>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/regions.h"
#include "partitioner/hlo/carry.h"
#include "partitioner/hlo/collective_groups.h"
#include "partitioner/hlo/import_annotations.h"
#include "partitioner/hlo/stated_sharding.h"

namespace tessera::hlo {
namespace {

bool lie_alike(const Sharding& a, const Sharding& b) {
  return *a.mesh == *b.mesh && a.same_layout(b);
}

bool is_closed(const Sharding& sharding) {
  return std::none_of(sharding.dims.begin(), sharding.dims.end(),
                      [](const DimSharding& dim) { return dim.open; });
}

class Boundary {
 public:
  Boundary(const HloModule& module, Imported& imported)
      : module_(module), imported_(imported), graph_(imported.graph), builder_(graph_) {}

  void run() {
    lay_out_results();
    for (const GraphInput& input : graph_.inputs) {
      ResultInfo& info = graph_.info(input.value);
      if (!info.sharding) info.sharding = Sharding(imported_.mesh, info.type.rank(), true);
    }
    Carry carry = find_carry(module_, imported_.inputs, imported_.outputs);
    for (std::string& text : carry.notes) note(std::move(text));
    for (const auto& [output, input] : carry.aliased) tie(output, input);
    for (const auto& [output, input] : carry.pairs)
      graph_.inputs[static_cast<size_t>(input)].kind = InputKind::parameter;
    imported_.carry = std::move(carry.pairs);
  }

 private:
  void note(std::string text) {
    std::vector<std::string>& notes = imported_.notes;
    if (std::find(notes.begin(), notes.end(), text) == notes.end())
      notes.push_back(std::move(text));
  }

  // The sharding attribute of the root. Where a module names its shardings by axes, those of its
  // results stand at FuncResultSharding, and JAX fills up the root's tuple with {replicated}.
  void lay_out_results() {
    const HloComputation& entry = module_.entry_computation();
    const HloInstruction& root = entry.instructions[static_cast<size_t>(entry.root)];
    const std::vector<StatedSharding> stated = stated_shardings(module_, root);
    const bool has_names = module_.frontend_attributes.find("xla.sdy.meshes") != nullptr;
    for (size_t o = 0; o < stated.size(); ++o) {
      if (has_names && !stated[o].is_from_sdy &&
          stated[o].sharding.kind == HloSharding::Kind::replicated)
        continue;
      try {
        root.opcode == "parameter" ? lay_out_parameter(o, stated[o]) : lay_out(o, stated[o]);
      } catch (const UserError& error) {
        throw_user_error(where(root), ": ", error.what());
      }
    }
  }

  // Of an entry that gives back what it takes.
  void lay_out_parameter(size_t number, const StatedSharding& stated) {
    ResultInfo& info = graph_.info(graph_.outputs[number].value);
    info.sharding = lying_of(stated, info.type, imported_.mesh).sharding;
  }

  void lay_out(size_t number, const StatedSharding& stated) {
    GraphOutput& output = graph_.outputs[number];
    StatedLying lying = lying_of(stated, graph_.type(output.value), imported_.mesh);
    for (std::string& text : lying.notes) note(cat("result ", output.name, ": ", text));
    if (!lying.sharding && lying.groups.empty()) return;
    output.value = same_value(builder_, output.value);
    ResultInfo& info = graph_.info(output.value);
    info.groups = std::move(lying.groups);
    if (!lying.sharding) return;
    info.name = output.name;
    info.sharding = lying.sharding;
    if (is_closed(*lying.sharding)) output.sharding = std::move(lying.sharding);
  }

  // What is demanded of the output, by the root or by the value itself.
  std::optional<Sharding> demanded(const GraphOutput& output) const {
    if (output.sharding) return output.sharding;
    const ResultInfo& info = graph_.info(output.value);
    if (!graph_.at(output.value).is(ops::kParameter) && info.sharding && is_closed(*info.sharding))
      return info.sharding;
    return std::nullopt;
  }

  // The output overwrites the input, where both lie alike or one of them is free to.
  void tie(int output_number, int input_number) {
    GraphOutput& output = graph_.outputs[static_cast<size_t>(output_number)];
    ResultInfo& input = graph_.info(graph_.inputs[static_cast<size_t>(input_number)].value);
    const std::optional<Sharding> result = demanded(output);
    if (is_closed(*input.sharding)) {
      if (result && !lie_alike(*result, *input.sharding)) {
        note(cat("result ", output.name, " does not overwrite ", input.name, ": it lies ", *result,
                 ", the parameter ", *input.sharding));
        return;
      }
    } else if (result) {
      input.sharding = result->closed();
    } else {
      share_lying(output, input_number);
    }
    output.alias_input = input_number;
  }

  // Neither is demanded: propagation finds one lying for both.
  void share_lying(GraphOutput& output, int input_number) {
    const Value input = graph_.inputs[static_cast<size_t>(input_number)].value;
    if (output.value == input) return;
    if (next_group_ < 0) next_group_ = first_free_group();
    const ShardingGroup group{next_group_++, ShardingGroup::Kind::as};
    // The value may be the result of several outputs.
    output.value = same_value(builder_, output.value);
    graph_.info(output.value).groups.push_back(group);
    graph_.info(input).groups.push_back(group);
  }

  int64_t first_free_group() const {
    int64_t first = 0;
    for_each_region(graph_, [&](const Graph& graph) {
      for (const Instruction& instruction : graph.instructions)
        for (const ResultInfo& result : instruction.results)
          for (const ShardingGroup& group : result.groups) first = std::max(first, group.id + 1);
    });
    return first;
  }

  const HloModule& module_;
  Imported& imported_;
  Graph& graph_;
  Builder builder_;
  int64_t next_group_ = -1;
};

}  // namespace

void annotate_boundary(const HloModule& module, Imported& imported) {
  check_collective_axes(module, imported.mesh);
  Boundary(module, imported).run();
}

}  // namespace tessera::hlo
