// Property: whatever the program and its annotations, every pass leaves what it computes unchanged.
#include "tests/partitioner/random_program.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

void check(const std::vector<uint32_t>& tape) {
  const RandomProgram program = random_program(tape);
  const std::string failure = check_every_pass(program.graph, program.mesh, {}, {}, 1e-10, 1);
  if (!failure.empty()) RC_FAIL(cat(*program.mesh, "\n", print_graph(program.graph), failure));
}

RC_GTEST_PROP(RandomProgram, IsTheSameAfterEveryPass, ()) {
  check(*rc::gen::scale(3.0, rc::gen::arbitrary<std::vector<uint32_t>>()));
}

// The same on many programs from plain seeds, longer than those of the property.
TEST(RandomProgramLong, IsTheSameAfterEveryPass) {
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    std::mt19937 random(seed);
    std::vector<uint32_t> tape(20 + random() % 150);
    for (uint32_t& number : tape) number = random() % 1000;
    const RandomProgram program = random_program(tape);
    const std::string failure = check_every_pass(program.graph, program.mesh, {}, {}, 1e-10, seed);
    ASSERT_TRUE(failure.empty()) << "seed " << seed << " on " << *program.mesh << "\n"
                                 << print_graph(program.graph) << failure;
  }
}

}  // namespace
}  // namespace tessera::testing
