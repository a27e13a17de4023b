#include "partitioner/hlo/import.h"

#include "partitioner/hlo/collective_groups.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/import_annotations.h"
#include "partitioner/hlo/import_walk.h"

namespace tessera::hlo {
namespace {

std::string unsupported_message(const std::vector<std::string>& list) {
  return cat("the module uses what Tessera does not have: ", join(list));
}

void throw_unsupported(const ImportState& state) {
  if (!state.unsupported.empty())
    throw UnsupportedHlo({state.unsupported.begin(), state.unsupported.end()});
}

std::string boundary_name(const std::string& root, const Ints& path) {
  return path.empty() ? root : cat(root, ".", join(path, "."));
}

void describe_boundary(const HloComputation& entry, Imported& imported) {
  const Graph& graph = imported.graph;
  for (int number : entry.parameters()) {
    const HloInstruction& parameter = entry.instructions[static_cast<size_t>(number)];
    for (const Ints& path : leaf_paths(parameter.shape)) {
      const GraphInput& input = graph.inputs[imported.inputs.size()];
      imported.inputs.push_back({boundary_name(parameter.name, path), path,
                                 parameter.parameter_number, graph.type(input.value)});
    }
  }
  const HloInstruction& root = entry.instructions[static_cast<size_t>(entry.root)];
  for (const Ints& path : leaf_paths(root.shape)) {
    const GraphOutput& output = graph.outputs[imported.outputs.size()];
    imported.outputs.push_back({output.name, path, -1, graph.type(output.value)});
  }
}

// The computations in the order of `needed`, whose last is the entry.
void import_computations(ImportState& state, const std::vector<int>& needed, Imported& imported) {
  for (int c : needed) {
    const HloComputation& computation = state.module.computations[static_cast<size_t>(c)];
    if (c != state.module.entry) {
      auto region = std::make_shared<Graph>();
      region->name = computation.name;
      import_computation(state, c, *region);
      state.regions[static_cast<size_t>(c)] = std::move(region);
      continue;
    }
    imported.graph.name = state.module.name;
    std::vector<std::vector<Value>> leaves = import_computation(state, c, imported.graph);
    for (size_t i = 0; i < leaves.size(); ++i) {
      imported.values.emplace_back(computation.instructions[i].name, std::move(leaves[i]));
      imported.is_tuple.push_back(computation.instructions[i].shape.is_tuple);
    }
    imported.root = computation.root;
  }
}

Imported import_outlined(const HloModule& module, const ImportOptions& options,
                         std::set<std::string> unsupported) {
  ImportState state(module);
  state.unsupported = std::move(unsupported);
  const std::vector<int> needed = needed_computations(module);
  Imported imported;
  try {
    imported.mesh = state.mesh = choose_mesh(module, options.devices);
    state.own_mesh = own_mesh(module, state.mesh);
  } catch (const UserError&) {
    throw_unsupported(state);
    throw;
  }
  import_computations(state, needed, imported);
  throw_unsupported(state);
  describe_boundary(module.entry_computation(), imported);
  imported.notes = std::move(state.notes);
  annotate_boundary(module, imported);
  return imported;
}

}  // namespace

UnsupportedHlo::UnsupportedHlo(std::vector<std::string> list)
    : ConfigError(unsupported_message(list)), unsupported(std::move(list)) {}

Imported import(const HloModule& module, const ImportOptions& options) {
  ImportState scan(module);
  list_unsupported(scan, needed_computations(module));
  std::optional<HloModule> outlined;
  try {
    outlined = outline_manual_regions(module);
  } catch (const UserError&) {
    throw_unsupported(scan);
    throw;
  }
  return import_outlined(outlined ? *outlined : module, options, std::move(scan.unsupported));
}

}  // namespace tessera::hlo
