// Property: whatever the program and its annotations, every pass leaves what it computes unchanged.
#include "tests/partitioner/random_program.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "tests/partitioner/random_program_check.h"

namespace tessera::testing {
namespace {

void check(const std::vector<uint32_t>& tape, const RandomOptions& options) {
  const RandomProgram program = random_program(tape, options);
  const std::string failure = check_program(program, 1);
  if (!failure.empty()) RC_FAIL(cat(*program.mesh, "\n", print_graph(program.graph), failure));
}

RC_GTEST_PROP(RandomProgram, IsTheSameAfterEveryPass, ()) {
  check(*rc::gen::scale(3.0, rc::gen::arbitrary<std::vector<uint32_t>>()), {});
}

// The same on programs from plain seeds, longer than those of the property.
void check_seeds(uint64_t first, uint64_t count, const RandomOptions& options,
                 const ProgramCheck& check_one = check_program) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const RandomProgram program = random_program(random_tape(seed), options);
    const std::string failure = check_one(program, seed);
    ASSERT_TRUE(failure.empty()) << "seed " << seed << " on " << *program.mesh << "\n"
                                 << print_graph(program.graph) << failure;
  }
}

TEST(RandomProgram, SomeHundredsOfSeeds) { check_seeds(0, 300, {}); }
TEST(RandomProgram, OnSixteenDevices) { check_seeds(1000, 30, {.devices = 16}); }

TEST(RandomProgram, WithSeveralMeshes) {
  check_seeds(4000, 60, {.uneven = true, .other_meshes = true});
}

TEST(RandomProgram, WhereBytesDecide) {
  for (int64_t devices : {4, 6, 8, 16})
    check_seeds(6000, 40, {.devices = devices, .uneven = true}, check_by_bytes);
}

// With planned memory and real messages.
void check_runs(uint64_t first, uint64_t count, const RandomOptions& options) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const RandomProgram program = random_program(random_tape(seed), options);
    const std::string failure = run_program(program);
    ASSERT_TRUE(failure.empty()) << "seed " << seed << " on " << *program.mesh << "\n"
                                 << print_graph(program.graph) << failure;
  }
}

TEST(RandomProgram, RunsOnTwoThreads) { check_runs(2000, 40, {.devices = 2, .uneven = true}); }
TEST(RandomProgram, RunsOnFourThreads) { check_runs(3000, 40, {.devices = 4, .uneven = true}); }

TEST(RandomProgram, RunsWithSeveralMeshes) {
  check_runs(5000, 20, {.devices = 4, .uneven = true, .other_meshes = true});
}

TEST(RandomProgramLong, IsTheSameAfterEveryPass) { check_seeds(10000, 5000, {}); }

}  // namespace
}  // namespace tessera::testing
