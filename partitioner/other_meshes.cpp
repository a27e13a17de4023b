#include "partitioner/other_meshes.h"

#include <functional>

#include "core/base/error.h"
#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "partitioner/mesh_translation.h"

namespace tessera {
namespace {

// Calls visit(sharding) for every sharding that the graph states, without its regions.
template <typename G, typename Visit>
void for_each_sharding(G& graph, const Visit& visit) {
  for (auto& instruction : graph.instructions)
    for (auto& result : instruction.results)
      if (result.sharding) visit(*result.sharding);
  for (auto& output : graph.outputs)
    if (output.sharding) visit(*output.sharding);
}

// All translations that a program needs.
class Translations {
 public:
  Translations(const Graph& graph, MeshPtr home) : home_(std::move(home)) {
    for_each_region(graph, [&](const Graph& each) { gather(each); });
    for (const Group& group : groups_) made_.emplace_back(*group.mesh, home_, group.used);
  }

  bool none() const { return made_.empty(); }

  // As it is where it is for the program's mesh.
  Sharding operator()(const Sharding& sharding) const {
    if (sharding.is_for(*home_)) return sharding;
    for (size_t g = 0; g < groups_.size(); ++g)
      if (*groups_[g].mesh == *sharding.mesh) return made_[g].translate(sharding);
    TESSERA_CHECK(false, "no translation from ", *sharding.mesh);
  }

 private:
  struct Group {
    MeshPtr mesh;
    std::vector<Sharding> used;
  };

  void gather(const Graph& graph) {
    for_each_sharding(graph, [&](const Sharding& sharding) {
      if (sharding.is_for(*home_)) return;
      sharding.verify();
      for (Group& group : groups_)
        if (*group.mesh == *sharding.mesh) return group.used.push_back(sharding);
      groups_.push_back({sharding.mesh, {sharding}});
    });
    for (size_t i = 0; i < graph.instructions.size(); ++i)
      if (graph.instructions[i].is(ops::kManualComputation))
        check_manual(graph, static_cast<int>(i));
  }

  void check_manual(const Graph& graph, int index) const {
    const Attributes& attributes = graph.instructions[static_cast<size_t>(index)].attributes;
    for (Attr key : {Attr::in_shardings, Attr::out_shardings})
      for (const Sharding& sharding : attributes.get<Shardings>(key))
        if (!sharding.is_for(*home_))
          throw_config_error("manual_computation %", index, " of graph \"", graph.name, "\" is for mesh ",
                             *sharding.mesh, ", but the program is partitioned for ", *home_,
                             "; only inputs, outputs and annotations may be over other meshes");
  }

  MeshPtr home_;
  std::vector<Group> groups_;
  std::vector<MeshTranslation> made_;
};

// Appends the permutation that brings `value`, on local shapes, from one lying to another of the same
// tiles; the value itself where nothing moves.
Value relabelled(GraphRewriter& rewriter, Value value, const Sharding& from, const Sharding& to) {
  Graph& graph = rewriter.result();
  const Mesh& mesh = *graph.mesh;
  Ints sources = relabelling(from, to, mesh);
  if (sources.empty()) return value;
  const ResultInfo& info = graph.info(value);
  Instruction permute;
  permute.op = &ops::kCollectivePermute;
  permute.operands = {value};
  const Shape& shape = info.type.shape;
  permute.attributes = {{Attr::shape, Ints(shape.begin(), shape.end())},
                        {Attr::axes, axes_of(mesh)},
                        {Attr::sources, std::move(sources)}};
  ResultInfo result = info;
  result.name.clear();
  result.sharding = to;
  permute.results = {std::move(result)};
  return rewriter.append(std::move(permute));
}

}  // namespace

Graph onto_one_mesh(const Graph& source, const MeshPtr& mesh, ForeignBoundary& boundary) {
  const Translations translate(source, mesh);
  if (translate.none()) return source;
  auto keep = [&](std::map<size_t, ForeignBoundary::Lying>& lyings, size_t number,
                  std::optional<Sharding>& sharding) {
    if (!sharding || sharding->is_for(*mesh)) return;
    sharding = sharding->closed();
    lyings[number] = {*sharding, translate(*sharding)};
  };
  Graph graph = source;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    keep(boundary.inputs, i, graph.info(graph.inputs[i].value).sharding);
  for (size_t o = 0; o < graph.outputs.size(); ++o) {
    GraphOutput& output = graph.outputs[o];
    if (!output.sharding && boundary.inputs.contains(static_cast<size_t>(output.alias_input)))
      output.sharding = boundary.inputs.at(static_cast<size_t>(output.alias_input)).outside;
    keep(boundary.outputs, o, output.sharding);
  }
  return with_regions(graph, [&](const Graph& each) {
    Graph translated = each;
    for_each_sharding(translated, [&](Sharding& sharding) { sharding = translate(sharding); });
    return translated;
  });
}

Graph restore_boundary(const Graph& local, const ForeignBoundary& boundary) {
  if (boundary.inputs.empty() && boundary.outputs.empty()) return local;
  std::map<Value, const ForeignBoundary::Lying*> inputs;
  for (const auto& [number, lying] : boundary.inputs)
    inputs[local.inputs[number].value] = &lying;
  GraphRewriter rewriter(local);
  for (size_t i = 0; i < local.instructions.size(); ++i) {
    const Value old{static_cast<int>(i), 0};
    const Value made = rewriter.copy(old.instruction);
    const auto found = inputs.find(old);
    if (found == inputs.end()) continue;
    const auto& [outside, inside] = *found->second;
    const Value moved = relabelled(rewriter, made, outside, inside);
    if (moved == made) continue;
    rewriter.result().info(made).sharding = outside;
    rewriter.replace(old, moved);
  }
  std::map<size_t, Value> outputs;
  for (const auto& [number, lying] : boundary.outputs)
    outputs[number] = relabelled(rewriter, rewriter.mapped(local.outputs[number].value),
                                 lying.inside, lying.outside);
  Graph graph = rewriter.finish();
  for (const auto& [number, value] : outputs) {
    graph.outputs[number].value = value;
    graph.outputs[number].sharding = graph.sharding(value);
  }
  return graph;
}

}  // namespace tessera
