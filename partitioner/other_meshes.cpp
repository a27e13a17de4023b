#include "partitioner/other_meshes.h"

#include "core/base/error.h"
#include "core/ir/regions.h"
#include "core/ir/rewriter.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "partitioner/mesh_translation.h"

namespace tessera {
namespace {

// What axes in the attributes of an instruction are of: the mesh of the manual computation that it is, or
// of the one that it stands in. Elsewhere there are none.
MeshPtr mesh_of_axes(const Instruction& instruction, const MeshPtr& around) {
  return instruction.is(ops::kManualComputation)
             ? instruction.attributes.get<GraphRef>(Attr::callee)->mesh
             : around;
}

// By region of the graph, the mesh of the manual computation around what it holds.
std::map<const Graph*, MeshPtr> meshes_inside(const Graph& graph, const MeshPtr& around) {
  std::map<const Graph*, MeshPtr> inside;
  for (const Instruction& instruction : graph.instructions)
    for (const Region& region : control_regions(instruction))
      inside[region.graph.get()] = mesh_of_axes(instruction, around);
  return inside;
}

// All translations that a program needs.
class Translations {
 public:
  Translations(const Graph& graph, MeshPtr home) : home_(std::move(home)) {
    gather(graph, nullptr);
    for (const Group& group : groups_) made_.emplace_back(*group.mesh, home_, group.used);
  }

  bool none() const { return made_.empty(); }
  const MeshPtr& home() const { return home_; }

  // As it is where it is for the program's mesh.
  Sharding operator()(const Sharding& sharding) const {
    return sharding.is_for(*home_) ? sharding : to_home(*sharding.mesh).translate(sharding);
  }
  AxisList operator()(const AxisList& axes, const MeshPtr& mesh) const {
    return !mesh || *mesh == *home_ ? axes : to_home(*mesh).translate(axes);
  }

 private:
  struct Group {
    MeshPtr mesh;
    std::vector<Sharding> used;
  };

  const MeshTranslation& to_home(const Mesh& mesh) const {
    for (size_t g = 0; g < groups_.size(); ++g)
      if (*groups_[g].mesh == mesh) return made_[g];
    TESSERA_CHECK(false, "no translation from ", mesh);
  }

  void gather(const Graph& graph, const MeshPtr& around) {
    for (size_t i = 0; i < graph.instructions.size(); ++i) {
      const Instruction& instruction = graph.instructions[i];
      for (const ResultInfo& result : instruction.results)
        if (result.sharding) add(*result.sharding);
      if (instruction.is(ops::kManualComputation)) check_manual(graph, static_cast<int>(i));
      const MeshPtr mesh = mesh_of_axes(instruction, around);
      for (const auto& [key, held] : instruction.attributes.entries()) {
        if (const auto* axes = std::get_if<AxisList>(&held)) add(*axes, mesh);
        if (const auto* sharding = std::get_if<Sharding>(&held)) add(*sharding);
        if (const auto* shardings = std::get_if<Shardings>(&held))
          for (const Sharding& sharding : *shardings) add(sharding);
      }
    }
    for (const GraphOutput& output : graph.outputs)
      if (output.sharding) add(*output.sharding);
    for (const auto& [region, mesh] : meshes_inside(graph, around)) gather(*region, mesh);
  }

  void add(const Sharding& sharding) {
    if (sharding.is_for(*home_)) return;
    sharding.verify();
    for (Group& group : groups_)
      if (*group.mesh == *sharding.mesh) return group.used.push_back(sharding);
    groups_.push_back({sharding.mesh, {sharding}});
  }
  void add(const AxisList& axes, const MeshPtr& mesh) {
    if (!mesh || axes.empty()) return;
    Sharding cut(mesh, 1);
    cut.dims[0].axes = axes;
    add(cut);
  }

  void check_manual(const Graph& graph, int index) const {
    const Instruction& manual = graph.instructions[static_cast<size_t>(index)];
    const MeshPtr mesh = mesh_of_axes(manual, nullptr);
    if (!mesh || mesh->devices() == home_->devices()) return;
    throw_config_error("manual_computation %", index, manual.scope.empty() ? "" : " in ",
                       manual.scope, " of graph \"", graph.name, "\" is over mesh ", *mesh, " of ",
                       mesh->devices(), " devices, but the program is partitioned for ", *home_, " of ",
                       home_->devices(), "; give it a mesh of ", home_->devices(),
                       " devices (an axis that it leaves free may hold the rest), or partition the "
                       "program for ",
                       mesh->devices());
  }

  MeshPtr home_;
  std::vector<Group> groups_;
  std::vector<MeshTranslation> made_;
};

// The graph with all that it and its regions state over the program's mesh.
Graph translated(const Graph& source, const Translations& translate, const MeshPtr& around) {
  const std::map<const Graph*, MeshPtr> inside = meshes_inside(source, around);
  Graph graph = with_mapped_regions(source, [&](const Graph& region) {
    return translated(region, translate, inside.at(&region));
  });
  if (graph.mesh) graph.mesh = translate.home();
  for (size_t i = 0; i < graph.instructions.size(); ++i) {
    Instruction& instruction = graph.instructions[i];
    for (ResultInfo& result : instruction.results)
      if (result.sharding) result.sharding = translate(*result.sharding);
    const MeshPtr mesh = mesh_of_axes(source.instructions[i], around);
    for (const auto& [key, held] : source.instructions[i].attributes.entries()) {
      if (const auto* axes = std::get_if<AxisList>(&held))
        instruction.attributes.set(key, translate(*axes, mesh));
      if (const auto* sharding = std::get_if<Sharding>(&held))
        instruction.attributes.set(key, translate(*sharding));
      if (const auto* shardings = std::get_if<Shardings>(&held)) {
        Shardings all;
        for (const Sharding& sharding : *shardings) all.push_back(translate(sharding));
        instruction.attributes.set(key, std::move(all));
      }
    }
  }
  for (GraphOutput& output : graph.outputs)
    if (output.sharding) output.sharding = translate(*output.sharding);
  return graph;
}

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
  return translated(graph, translate, nullptr);
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
