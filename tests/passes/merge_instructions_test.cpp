#include "core/passes/merge_instructions.h"

#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/structure.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

// Sums of squares of inputs and of what is made of other sums.
struct Squares {
  Graph graph;
  Builder b{graph};

  Value input(const char* name) { return b.input(InputKind::data, name, {DType::f64, {6}}); }
  Value square(Value x) { return ops::sum_of_squares(b, x); }
  Value scaled(Value x, Value by) { return ops::multiply(b, x, ops::broadcast_last(b, by, {6})); }

  Merge merge(std::vector<Value> sums) const {
    Merge merge;
    merge.one = graph.at(sums[0]);
    merge.one.op = &ops::kMultiSumOfSquares;
    merge.one.operands.clear();
    merge.one.results.clear();
    for (const Value sum : sums) {
      merge.members.push_back(sum.instruction);
      merge.one.operands.push_back(graph.at(sum).operands[0]);
      merge.one.results.push_back(graph.info(sum));
      merge.stands_for.push_back(sum);
    }
    return merge;
  }

  Graph check(const std::vector<Merge>& merges) const {
    Graph made = merge_instructions(graph, merges);
    verify(made, GraphStage::built);
    const auto inputs = values(graph);
    const auto expected = interpret(graph, inputs), actual = interpret(made, inputs);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(actual[i], expected[i]) << graph.outputs[i].name;
    return made;
  }
};

// The second merge must stand before the first, whose first member is first in the graph.
TEST(MergeInstructions, OneMayReadAnother) {
  Squares squares;
  const Value x = squares.input("x"), y = squares.input("y"), z = squares.input("z");
  const Value first = squares.square(x), second = squares.square(y);
  const Value third = squares.square(squares.scaled(x, second)), fourth = squares.square(z);
  for (const Value sum : {first, second, third, fourth}) squares.b.output(sum, cat("sum", sum.instruction));
  const Graph made = squares.check({squares.merge({first, third}), squares.merge({second, fourth})});
  EXPECT_EQ(count(made, ops::kMultiSumOfSquares), 2);
  EXPECT_EQ(count(made, ops::kSumOfSquares), 0);
}

// The first two wait for each other; the third has nothing to do with them.
TEST(MergeInstructions, CirclesAreBrokenWhereTheyClose) {
  Squares squares;
  const Value x = squares.input("x"), y = squares.input("y"), z = squares.input("z");
  const Value first = squares.square(x), second = squares.square(y), other = squares.square(z);
  const Value third = squares.square(squares.scaled(x, second)), fourth = squares.square(squares.scaled(y, first));
  const Value last = squares.square(squares.scaled(z, fourth));
  for (const Value sum : {first, second, other, third, fourth, last})
    squares.b.output(sum, cat("sum", sum.instruction));
  const Merge one = squares.merge({first, third}), two = squares.merge({second, fourth}),
              three = squares.merge({other, last});
  const Graph made = squares.check({one, two, three});
  EXPECT_EQ(count(made, ops::kMultiSumOfSquares), 2);
  EXPECT_EQ(count(made, ops::kSumOfSquares), 2);
  EXPECT_EQ(count(squares.check({two, one}), ops::kMultiSumOfSquares), 1);
}

// A circle of three merges, any two of which can be done.
TEST(MergeInstructions, CirclesMayBeLong) {
  Squares squares;
  const Value x = squares.input("x");
  std::vector<Value> begin, end;
  for (int i = 0; i < 3; ++i) begin.push_back(squares.square(x));
  for (size_t i = 0; i < 3; ++i) end.push_back(squares.square(squares.scaled(x, begin[(i + 1) % 3])));
  std::vector<Merge> merges;
  for (size_t i = 0; i < 3; ++i) {
    squares.b.output(begin[i], cat("begin", i));
    squares.b.output(end[i], cat("end", i));
    merges.push_back(squares.merge({begin[i], end[i]}));
  }
  EXPECT_EQ(count(squares.check(merges), ops::kMultiSumOfSquares), 2);
}

TEST(MergeInstructions, AnInstructionHasOneMerge) {
  Squares squares;
  const Value x = squares.input("x");
  const Value first = squares.square(x), second = squares.square(x), third = squares.square(x);
  try {
    merge_instructions(squares.graph, {squares.merge({first, second}), squares.merge({second, third})});
    FAIL() << "was done";
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("is a member of two merges"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tessera
