#include "core/ir/regions.h"

#include <algorithm>
#include <unordered_map>

#include "core/ir/parameter.h"
#include "core/ir/rewriter.h"

namespace tessera {

std::vector<Region> regions_of(const Attributes& attributes) {
  std::vector<Region> regions;
  for (const auto& [key, value] : attributes.entries()) {
    if (const auto* graph = std::get_if<GraphRef>(&value))
      regions.push_back({key, 0, *graph, std::string(name_of(key))});
    if (const auto* graphs = std::get_if<Graphs>(&value))
      for (size_t i = 0; i < graphs->size(); ++i)
        regions.push_back({key, static_cast<int>(i), (*graphs)[i], cat("branch ", i)});
  }
  return regions;
}

bool has_control_flow(const Instruction& instruction) {
  const Attributes& attributes = instruction.attributes;
  return attributes.has(Attr::condition) || attributes.has(Attr::branches) ||
         attributes.has(Attr::callee);
}

std::vector<Region> control_regions(const Instruction& instruction) {
  return has_control_flow(instruction) ? regions_of(instruction) : std::vector<Region>{};
}

std::string region_path(std::string_view outer, int instruction, const Region& region) {
  return cat(outer, "%", instruction, ".", region.name, "/");
}

void for_each_region(const Graph& graph, const std::function<void(const Graph&)>& visit) {
  for (const Instruction& instruction : graph.instructions)
    for (const Region& region : control_regions(instruction)) for_each_region(*region.graph, visit);
  visit(graph);
}

namespace {

void replace_regions(Instruction& instruction, const std::function<GraphRef(const GraphRef&)>& mapped) {
  if (!has_control_flow(instruction)) return;
  const Attributes attributes = instruction.attributes;
  for (const auto& [key, value] : attributes.entries()) {
    if (const auto* graph = std::get_if<GraphRef>(&value))
      instruction.attributes.set(key, mapped(*graph));
    if (const auto* graphs = std::get_if<Graphs>(&value)) {
      Graphs all;
      for (const GraphRef& graph : *graphs) all.push_back(mapped(graph));
      instruction.attributes.set(key, std::move(all));
    }
  }
}

}  // namespace

void map_regions(Instruction& instruction, const std::function<Graph(const Graph&)>& map) {
  replace_regions(instruction, [&](const GraphRef& graph) {
    return std::make_shared<const Graph>(map(*graph));
  });
}

Graph with_mapped_regions(const Graph& graph, const std::function<Graph(const Graph&)>& map) {
  Graph result = graph;
  std::unordered_map<const Graph*, GraphRef> made;
  for (Instruction& instruction : result.instructions)
    replace_regions(instruction, [&](const GraphRef& region) {
      GraphRef& mapped = made[region.get()];
      if (!mapped) mapped = std::make_shared<const Graph>(map(*region));
      return mapped;
    });
  return result;
}

Graph with_regions(const Graph& graph, const GraphPass& pass) {
  if (std::none_of(graph.instructions.begin(), graph.instructions.end(), has_control_flow))
    return pass(graph);
  return pass(with_mapped_regions(
      graph, [&](const Graph& region) { return with_regions(region, pass); }));
}

namespace {

bool same_result(const ResultInfo& a, const ResultInfo& b) {
  return a.type == b.type && a.sharding == b.sharding && a.padded_shape == b.padded_shape && a.logical_shape == b.logical_shape &&
         a.logical_axes == b.logical_axes && a.groups == b.groups;
}

bool same_instruction(const Instruction& a, const Instruction& b) {
  if (a.op != b.op || a.operands != b.operands || a.recompute != b.recompute ||
      a.factor_axes != b.factor_axes || a.results.size() != b.results.size())
    return false;
  for (size_t r = 0; r < a.results.size(); ++r)
    if (!same_result(a.results[r], b.results[r])) return false;
  // The names of parameters are not part of the computation.
  if (a.op->has_state) return a.attributes.integer(Attr::index) == b.attributes.integer(Attr::index);
  return a.attributes == b.attributes;
}

}  // namespace

bool same_computation(const Graph& a, const Graph& b) {
  if (&a == &b) return true;
  auto same_input = [](const GraphInput& x, const GraphInput& y) { return x.value == y.value; };
  auto same_output = [](const GraphOutput& x, const GraphOutput& y) {
    return x.value == y.value && x.alias_input == y.alias_input && x.sharding == y.sharding;
  };
  const bool same_mesh = a.mesh == b.mesh || (a.mesh && b.mesh && *a.mesh == *b.mesh);
  return same_mesh && a.is_local == b.is_local &&
         std::equal(a.instructions.begin(), a.instructions.end(), b.instructions.begin(),
                    b.instructions.end(), same_instruction) &&
         std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), b.inputs.end(), same_input) &&
         std::equal(a.outputs.begin(), a.outputs.end(), b.outputs.begin(), b.outputs.end(),
                    same_output);
}

Graph with_boundary(const Graph& graph, const std::vector<int>& inputs,
                    const std::vector<int>& outputs) {
  Graph cut = graph;
  cut.inputs.clear();
  cut.outputs.clear();
  std::vector<bool> live(graph.instructions.size(), false);
  std::vector<int> new_number(graph.inputs.size(), -1);
  for (int input : inputs) {
    new_number[static_cast<size_t>(input)] = static_cast<int>(cut.inputs.size());
    const GraphInput& kept = graph.inputs[static_cast<size_t>(input)];
    live[static_cast<size_t>(kept.value.instruction)] = true;
    cut.at(kept.value).attributes.set(Attr::index, static_cast<int64_t>(cut.inputs.size()));
    cut.inputs.push_back(kept);
  }
  for (int output : outputs) {
    GraphOutput kept = graph.outputs[static_cast<size_t>(output)];
    if (kept.alias_input >= 0) kept.alias_input = new_number[static_cast<size_t>(kept.alias_input)];
    live[static_cast<size_t>(kept.value.instruction)] = true;
    cut.outputs.push_back(std::move(kept));
  }
  for (size_t i = graph.instructions.size(); i-- > 0;)
    if (live[i])
      for (Value operand : graph.instructions[i].operands)
        live[static_cast<size_t>(operand.instruction)] = true;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    TESSERA_CHECK(new_number[i] >= 0 || !live[static_cast<size_t>(graph.inputs[i].value.instruction)],
                  "graph \"", graph.name, "\": input ", i, " is dropped but used");
  GraphRewriter rewriter(cut);
  for (size_t i = 0; i < cut.instructions.size(); ++i)
    if (live[i]) rewriter.copy(static_cast<int>(i));
  return rewriter.finish();
}

std::vector<Value> splice(Builder& builder, const Graph& graph, std::span<const Value> inputs) {
  TESSERA_CHECK(inputs.size() == graph.inputs.size(), "graph \"", graph.name, "\" takes ",
                graph.inputs.size(), " inputs, got ", inputs.size());
  Graph& target = builder.graph();
  const std::string& outer = builder.scope();
  std::vector<Value> first(graph.instructions.size());  // result 0 of each copy
  for (size_t i = 0; i < inputs.size(); ++i)
    first[static_cast<size_t>(graph.inputs[i].value.instruction)] = inputs[i];
  // A parameter may have been given any result of an instruction; all others keep their numbers.
  auto mapped = [&](Value value) {
    const Value made = first[static_cast<size_t>(value.instruction)];
    return graph.at(value).is(ops::kParameter) ? made : Value{made.instruction, value.result};
  };
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    if (graph.instructions[i].is(ops::kParameter)) continue;
    Instruction copy = graph.instructions[i];
    for (Value& operand : copy.operands) operand = mapped(operand);
    if (!outer.empty()) copy.scope = copy.scope.empty() ? outer : cat(outer, "/", copy.scope);
    copy.recompute = copy.recompute || builder.recompute();
    first[i] = {static_cast<int>(target.instructions.size()), 0};
    target.instructions.push_back(std::move(copy));
  }
  std::vector<Value> outputs;
  for (const GraphOutput& output : graph.outputs) outputs.push_back(mapped(output.value));
  return outputs;
}

void splice_instead(GraphRewriter& rewriter, const Instruction& instruction, int index,
                    const Graph& region, size_t first_operand) {
  std::vector<Value> inputs;
  for (size_t o = first_operand; o < instruction.operands.size(); ++o)
    inputs.push_back(rewriter.mapped(instruction.operands[o]));
  rewriter.builder().set_scope(instruction.scope);
  rewriter.builder().set_recompute(instruction.recompute);
  const std::vector<Value> results = splice(rewriter.builder(), region, inputs);
  for (size_t r = 0; r < results.size(); ++r)
    rewriter.replace({index, static_cast<int>(r)}, results[r]);
}

std::vector<TensorType> input_types(const Graph& graph) {
  std::vector<TensorType> types;
  for (const GraphInput& input : graph.inputs) types.push_back(graph.type(input.value));
  return types;
}

std::vector<TensorType> output_types(const Graph& graph) {
  std::vector<TensorType> types;
  for (const GraphOutput& output : graph.outputs) types.push_back(graph.type(output.value));
  return types;
}

}  // namespace tessera
