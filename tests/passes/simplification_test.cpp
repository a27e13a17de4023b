// dce, cse, folding and algebra: each shrinks what it should, and never changes a result.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/contraction.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

const TensorType kMatrix{DType::f64, {3, 4}};

using testing::count;

struct Fixture {
  Graph graph;
  Builder builder{graph};
  Value x = builder.input(InputKind::data, "x", kMatrix);
  Value y = builder.input(InputKind::data, "y", kMatrix);
};

std::vector<HostTensor> values() {
  std::vector<HostTensor> inputs(2, HostTensor(kMatrix));
  for (int64_t i = 0; i < 12; ++i) {
    inputs[0].set_real(i, 0.25 * static_cast<double>(i) - 1);
    inputs[1].set_real(i, 0.5 - 0.1 * static_cast<double>(i));
  }
  return inputs;
}

TEST(DeadCode, KeepsInputsAndWhatOutputsNeed) {
  Fixture f;
  const Value used = ops::add(f.builder, f.x, f.x);
  ops::multiply(f.builder, f.x, f.y);
  f.builder.output(used, "out");
  const Graph smaller = eliminate_dead_code(f.graph);
  verify(smaller, GraphStage::built);
  EXPECT_EQ(count(smaller, ops::kMultiply), 0);
  EXPECT_EQ(smaller.inputs.size(), 2u);
  EXPECT_EQ(interpret(smaller, values()), interpret(f.graph, values()));
}

TEST(CommonSubexpressions, MergesTheSameAndNothingElse) {
  Fixture f;
  const Value a = ops::add(f.builder, f.x, f.y), b = ops::add(f.builder, f.x, f.y);
  f.builder.set_recompute(true);
  const Value again = ops::add(f.builder, f.x, f.y);
  f.builder.set_recompute(false);
  f.builder.output(ops::multiply(f.builder, ops::multiply(f.builder, a, b), again), "out");
  const Graph smaller = merge_common_subexpressions(f.graph);
  verify(smaller, GraphStage::built);
  EXPECT_EQ(count(smaller, ops::kAdd), 2);  // the recomputed one stays
  EXPECT_EQ(interpret(smaller, values()), interpret(f.graph, values()));
}

TEST(CommonSubexpressions, DifferentDemandsStayApart) {
  Fixture f;
  const Value a = ops::add(f.builder, f.x, f.y), b = ops::add(f.builder, f.x, f.y);
  f.builder.annotate(a, {"batch", "embed"});
  f.builder.output(ops::multiply(f.builder, a, b), "out");
  EXPECT_EQ(count(merge_common_subexpressions(f.graph), ops::kAdd), 2);
}

TEST(ConstantFolding, EvaluatesConstantExpressions) {
  Fixture f;
  const Value two = ops::constant(f.builder, 2.0, kMatrix);
  const Value six = ops::multiply(f.builder, two, ops::add_scalar(f.builder, two, 1.0));
  f.builder.output(ops::multiply(f.builder, f.x, six), "out");
  const Graph smaller = eliminate_dead_code(fold_constants(f.graph));
  verify(smaller, GraphStage::built);
  EXPECT_EQ(smaller.instructions.size(), 4u);  // x, y, the constant, the product
  EXPECT_EQ(interpret(smaller, values()), interpret(f.graph, values()));
}

TEST(Algebra, DropsNeutralElementsAndDoubleMoves) {
  Fixture f;
  Value v = ops::add_scalar(f.builder, f.x, 0.0);
  v = ops::scale(f.builder, v, 1.0);
  v = ops::negate(f.builder, ops::negate(f.builder, v));
  v = ops::transpose(f.builder, ops::transpose(f.builder, v, {1, 0}), {1, 0});
  v = ops::reshape(f.builder, ops::reshape(f.builder, v, {12}), {3, 4});
  f.builder.output(ops::multiply(f.builder, v, f.y), "out");
  const Graph smaller = eliminate_dead_code(simplify_algebra(f.graph));
  verify(smaller, GraphStage::built);
  EXPECT_EQ(smaller.instructions.size(), 3u);
  EXPECT_EQ(interpret(smaller, values()), interpret(f.graph, values()));
}

TEST(Algebra, ProductsOfNarrowOperandsWidenInPlace) {
  Fixture f;
  const Value a = ops::convert(f.builder, f.x, DType::bf16), b = ops::convert(f.builder, f.y, DType::bf16);
  const Value product = ops::dot_general(f.builder, a, b, {.lhs_contracting = {1}, .rhs_contracting = {1}});
  const Value wide = f.builder.annotate(ops::convert(f.builder, product, DType::f32), {"rows", "columns"});
  f.builder.output(wide, "out");
  const Graph smaller = eliminate_dead_code(simplify_algebra(f.graph));
  verify(smaller, GraphStage::built);
  const Instruction& last = smaller.at(smaller.outputs[0].value);
  EXPECT_TRUE(last.is(ops::kDotGeneral));
  EXPECT_EQ(last.results[0].type.dtype, DType::f32);
  EXPECT_EQ(last.results[0].logical_axes, (std::vector<std::string>{"rows", "columns"}));
}

// A random graph of elementwise ops, moves and constants.
RC_GTEST_PROP(Simplification, NeverChangesAResult, ()) {
  Fixture f;
  std::vector<Value> pool = {f.x, f.y, ops::constant(f.builder, 0.0, kMatrix),
                             ops::constant(f.builder, 1.0, kMatrix), ops::constant(f.builder, -0.5, kMatrix)};
  const int size = *rc::gen::inRange(1, 25);
  for (int i = 0; i < size; ++i) {
    const Value a = pool[*rc::gen::inRange<size_t>(0, pool.size())];
    const Value b = pool[*rc::gen::inRange<size_t>(0, pool.size())];
    switch (*rc::gen::inRange(0, 7)) {
      case 0: pool.push_back(ops::add(f.builder, a, b)); break;
      case 1: pool.push_back(ops::multiply(f.builder, a, b)); break;
      case 2: pool.push_back(ops::subtract(f.builder, a, b)); break;
      case 3: pool.push_back(ops::negate(f.builder, a)); break;
      case 4: pool.push_back(ops::maximum(f.builder, a, b)); break;
      case 5:
        pool.push_back(ops::transpose(f.builder, ops::transpose(f.builder, a, {1, 0}), {1, 0}));
        break;
      default: pool.push_back(ops::reshape(f.builder, ops::reshape(f.builder, a, {2, 6}), {3, 4}));
    }
  }
  f.builder.output(pool.back(), "out");
  const auto expected = interpret(f.graph, values());
  Graph graph = f.graph;
  for (auto pass : {+[](const Graph& g) { return simplify_algebra(g); },
                    +[](const Graph& g) { return fold_constants(g); },
                    +[](const Graph& g) { return merge_common_subexpressions(g); },
                    +[](const Graph& g) { return eliminate_dead_code(g); }}) {
    graph = pass(graph);
    verify(graph, GraphStage::built);
    RC_ASSERT(max_relative_error(interpret(graph, values())[0], expected[0]) < 1e-15);
  }
}

// The gradient of a slice, added to those of the turns before.
TEST(Algebra, AZeroTensorWithOneSliceSetIsAddedInThatSlice) {
  for (const bool swapped : {false, true})
    for (const double fill : {0.0, 1.0}) {
      Graph graph;
      Builder b(graph);
      const Value x = b.input(InputKind::data, "x", kMatrix);
      const Value row = b.input(InputKind::data, "row", {DType::f64, {1, 4}});
      const Value at = b.input(InputKind::data, "at", {DType::s32, {}});
      const Value set = ops::dynamic_update_slice_dim(b, ops::constant(b, fill, kMatrix), row, 0, at);
      const Value y = ops::tanh(b, x);
      b.output(swapped ? ops::add(b, set, y) : ops::add(b, y, set), "sum");
      const Graph simple = simplify_algebra(graph);
      verify(simple, GraphStage::built);
      EXPECT_EQ(count(simple, ops::kDynamicSlice), fill == 0);
      for (const double start : {-1.0, 0.0, 2.0, 9.0}) {
        std::vector<HostTensor> inputs = testing::values(graph);
        inputs[2].set_real(0, start);
        EXPECT_EQ(interpret(eliminate_dead_code(simple), inputs), interpret(graph, inputs));
      }
    }
}

}  // namespace
}  // namespace tessera
