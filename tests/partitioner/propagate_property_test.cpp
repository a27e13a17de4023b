// Properties of propagation on random programs: annotations stay, axes are only appended, the result
// is a function of the program, and the work is bounded.
#include <gtest/gtest.h>

#include <random>

#include "core/base/error.h"
#include "core/ir/parameter.h"
#include "core/ir/text.h"
#include "partitioner/annotate.h"
#include "partitioner/propagate.h"
#include "partitioner/regions.h"
#include "partitioner/split_constants.h"
#include "tests/partitioner/random_program.h"

namespace tessera::testing {
namespace {

struct PropertyCase {
  Graph annotated;
  PropagateResult result;
};

PropertyCase propagated(uint64_t seed, const RandomOptions& options = {}) {
  const RandomProgram program = random_program(random_tape(seed), options);
  Origins origins;
  PropertyCase one;
  one.annotated = annotate(split_constants(program.graph), program.mesh, {}, &origins);
  one.result = propagate(one.annotated, origins);
  return one;
}

TEST(PropagateProperties, AnnotationsStayAndAxesAreAppended) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const PropertyCase one = propagated(seed);
    for (size_t i = 0; i < one.annotated.instructions.size(); ++i)
      for (size_t r = 0; r < one.annotated.instructions[i].results.size(); ++r) {
        const Sharding &before = *one.annotated.instructions[i].results[r].sharding,
                       &after = *one.result.graph.instructions[i].results[r].sharding;
        after.verify();
        for (size_t d = 0; d < before.dims.size(); ++d) {
          ASSERT_TRUE(is_prefix(before.dims[d].axes, after.dims[d].axes)) << seed << " %" << i;
          ASSERT_TRUE(before.dims[d].open || before.dims[d].axes == after.dims[d].axes) << seed;
        }
        ASSERT_FALSE(overlaps(after.used_axes(), after.replicated)) << seed;
      }
  }
}

TEST(PropagateProperties, TheSameProgramGivesTheSameResult) {
  for (uint64_t seed = 0; seed < 100; ++seed)
    ASSERT_EQ(print_graph(propagated(seed).result.graph), print_graph(propagated(seed).result.graph));
}

TEST(PropagateProperties, AFixedPointStays) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const PropertyCase one = propagated(seed, {.control = false});  // boundaries of regions get closed
    Origins origins;
    ASSERT_EQ(print_graph(propagate(one.result.graph, origins).graph), print_graph(one.result.graph))
        << seed;
  }
}

TEST(PropagateProperties, WorkIsBounded) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const PropertyCase one = propagated(seed);
    // Every append lets the neighbours in again; a tensor has few axes to take.
    EXPECT_LT(one.result.steps, 200 * instruction_count(one.result.graph)) << seed;
  }
}

// The instructions in another order in which operands still come first.
Graph shuffled(const Graph& graph, uint64_t seed, std::vector<int>& place) {
  std::mt19937_64 random(seed);
  Graph result = graph;
  result.instructions.clear();
  place.assign(graph.instructions.size(), -1);
  std::vector<int> left(graph.instructions.size());
  for (size_t i = 0; i < left.size(); ++i) left[i] = static_cast<int>(i);
  while (!left.empty()) {
    std::vector<size_t> ready;
    for (size_t l = 0; l < left.size(); ++l) {
      const Instruction& one = graph.instructions[static_cast<size_t>(left[l])];
      if (std::all_of(one.operands.begin(), one.operands.end(), [&](Value operand) {
            return place[static_cast<size_t>(operand.instruction)] >= 0;
          }))
        ready.push_back(l);
    }
    const size_t chosen = ready[random() % ready.size()];
    const int index = left[chosen];
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(chosen));
    Instruction copy = graph.instructions[static_cast<size_t>(index)];
    for (Value& operand : copy.operands)
      operand.instruction = place[static_cast<size_t>(operand.instruction)];
    place[static_cast<size_t>(index)] = static_cast<int>(result.instructions.size());
    result.instructions.push_back(std::move(copy));
  }
  for (GraphInput& input : result.inputs)
    input.value.instruction = place[static_cast<size_t>(input.value.instruction)];
  for (GraphOutput& output : result.outputs)
    output.value.instruction = place[static_cast<size_t>(output.value.instruction)];
  return result;
}

// Where nothing is in conflict, the order in which a program was written does not matter.
TEST(PropagateProperties, WithoutConflictsTheOrderOfInstructionsDoesNotMatter) {
  int64_t compared = 0, same = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const PropertyCase one = propagated(seed, {.control = false});
    if (!one.result.conflicts.empty()) continue;
    std::vector<int> place;
    const Graph other = shuffled(one.annotated, seed, place);
    Origins origins;
    const PropagateResult result = propagate(other, origins);
    for (size_t i = 0; i < place.size(); ++i)
      for (size_t r = 0; r < one.annotated.instructions[i].results.size(); ++r) {
        ++compared;
        same += *one.result.graph.instructions[i].results[r].sharding ==
                *result.graph.instructions[static_cast<size_t>(place[i])].results[r].sharding;
      }
  }
  EXPECT_GT(compared, 1000);
  EXPECT_EQ(same, compared);
}

}  // namespace
}  // namespace tessera::testing
