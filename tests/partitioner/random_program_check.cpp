#include "tests/partitioner/random_program_check.h"

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/runtime/thread_run.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {

std::string check_program(const RandomProgram& program, uint64_t seed) {
  return check_every_pass(program.graph, program.mesh, {}, {}, 1e-9, seed, nullptr,
                          &program.inputs);
}

std::string run_program(const RandomProgram& program) {
  std::string text;
  try {
    const std::vector<HostTensor> expected = interpret(program.graph, program.inputs);
    const Graph local = partition(program.graph, program.mesh, {});
    text = print_graph(local);
    const std::vector<HostTensor> made = run_on_threads(local, KernelTable(), program.inputs);
    for (size_t o = 0; o < expected.size(); ++o)
      if (const double error = error_between(expected[o], made[o]); !(error <= 1e-9))
        return cat("output \"", program.graph.outputs[o].name, "\" is off by ", error, " in\n",
                   text);
  } catch (const std::exception& error) {
    return cat(error.what(), "\n", text);
  }
  return "";
}

}  // namespace tessera::testing
