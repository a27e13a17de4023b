#include "launch/hlo/hlo_program.h"

#include <iostream>
#include <iterator>
#include <set>

#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/runtime/buffer_store.h"
#include "launch/checkpoint/file_system.h"

namespace tessera {
namespace {

// Above this size a module is not verified after every pass unless that is asked for.
constexpr int64_t kVerifiedInstructions = 2000;

// Memory is kept by name, and "p.1" may be both a parameter and a part of the tuple "p".
void tell_inputs_apart(Graph& graph) {
  std::set<std::string> names;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    if (names.insert(input_name(graph, static_cast<int>(i))).second) continue;
    std::string& name = graph.info(graph.inputs[i].value).name;
    name = cat(input_name(graph, static_cast<int>(i)), "#", i);
    names.insert(name);
  }
}

void carry_outputs(Graph& graph, const std::vector<std::pair<int, int>>& pairs) {
  if (pairs.empty())
    throw_config_error(
        "--carry: no output can be the input of a next step: the module has no input_output_alias or buffer_donor, and no "
        "run of its results has the types of its first parameters; in JAX, return the new state first and donate the old one");
  for (const auto& [output, input] : pairs) {
    GraphOutput& carried = graph.outputs[static_cast<size_t>(output)];
    if (carried.alias_input == input) continue;
    // It has to lie as the next step takes it, whatever was demanded of the result.
    carried.alias_input = input;
    carried.sharding.reset();
  }
}

}  // namespace

HloProgram compile_hlo(const std::string& text, const KernelTable& kernels, const HloCompileOptions& options) {
  HloProgram program;
  double start = steady_seconds();
  const hlo::HloModule module = hlo::parse(text);
  program.parse_seconds = steady_seconds() - start;
  program.instructions = module.instruction_count();

  start = steady_seconds();
  program.imported = hlo::import(module, {options.devices});
  Graph graph = hlo::simplify_imported(program.imported.graph);
  tell_inputs_apart(graph);
  if (options.carry) {
    program.carried = program.imported.carry;
    carry_outputs(graph, program.carried);
  }
  program.compiled = lower(graph, program.imported.mesh, kernels,
                           {.strict = options.strict, .verify = options.check_passes || program.instructions <= kVerifiedInstructions});
  program.compile_seconds = steady_seconds() - start;
  return program;
}

std::string read_hlo_text(const std::string& file) {
  if (file != "-") return read_file(file);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

}  // namespace tessera
