// Property: whatever the program and its annotations, every pass leaves what it computes unchanged.
#include "tests/partitioner/random_program.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

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

}  // namespace
}  // namespace tessera::testing
