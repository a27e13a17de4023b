#include "tests/partitioner/random_program_check.h"

#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {

std::string check_program(const RandomProgram& program, uint64_t seed) {
  return check_every_pass(program.graph, program.mesh, {}, {}, 1e-9, seed, nullptr,
                          &program.inputs);
}

std::string check_by_bytes(const RandomProgram& program, uint64_t seed) {
  PartitionOptions options;
  options.machine.kernel_latency = 0;
  options.machine.inside_host.latency = options.machine.between_hosts.latency = 1e-12;
  return check_every_pass(program.graph, program.mesh, {}, options, 1e-9, seed, nullptr,
                          &program.inputs);
}

std::string run_program(const RandomProgram& program) {
  return check_on_threads(program.graph, program.mesh, program.inputs);
}

}  // namespace tessera::testing
