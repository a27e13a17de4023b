#include "core/passes/join_updates.h"

#include <gtest/gtest.h>

#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ir/regions.h"
#include "core/ir/verifier.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "kernels/cpu/register.h"
#include "tests/compile/test_steps.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;

Graph joined(const Graph& graph) {
  const Graph made = join_updates(graph, cpu_kernel_table());
  verify(made, graph.is_local ? GraphStage::local : GraphStage::built);
  return made;
}

// Updates of tensors of odd sizes after their sums of squares, whose root scales all gradients.
struct Updates {
  Graph graph;
  Builder b{graph};
  Value rate, one, step;
  std::vector<Value> grads;
  std::vector<std::pair<std::string, Value>> weights;

  explicit Updates(int tensors, DType dtype = DType::f32) {
    rate = b.input(InputKind::scalar, "learning_rate", {dtype, {}});
    step = b.input(InputKind::scalar, "step", {DType::s64, {}});
    one = ops::constant(b, 1.0, {dtype, {}});
    for (int i = 0; i < tensors; ++i) {
      const TensorType type{dtype, {i + 1, 2 * i + 1}};
      weights.emplace_back(cat("w", i), b.input(InputKind::parameter, cat("w", i), type));
      grads.push_back(b.input(InputKind::data, cat("g", i), type));
    }
  }
  Value norm() {
    Value sum;
    for (const Value grad : grads) {
      const Value square = ops::sum_of_squares(b, grad);
      sum = sum.valid() ? ops::add(b, sum, square) : square;
    }
    return ops::sqrt(b, sum);
  }
  ops::AdamWResult update(size_t i, Value scale, const ops::AdamWOptions& options, DType moments = DType::f32) {
    const TensorType type{graph.type(weights[i].second).dtype == DType::f64 ? DType::f64 : moments,
                          b.shape(weights[i].second)};
    const int number = static_cast<int>(graph.inputs.size());
    const Value m = b.input(InputKind::optimizer, cat("m", i), type), v = b.input(InputKind::optimizer, cat("v", i), type);
    const auto made = ops::adamw(b, {weights[i].second, m, v, grads[i], rate, scale, one, one, step}, options);
    b.output(made.param, weights[i].first, graph.find_input(weights[i].first));
    b.output(made.m, cat("m", i), number);
    b.output(made.v, cat("v", i), number + 1);
    return made;
  }
};

// Bitwise, and nothing is copied.
TEST(JoinUpdates, AllTensorsBecomeOneOp) {
  Updates updates(5);
  const Value norm = updates.norm();
  for (size_t i = 0; i < 5; ++i) updates.update(i, norm, {.weight_decay = i % 2 == 0 ? 0.1 : 0});
  const Graph made = joined(updates.graph);
  EXPECT_EQ(count(made, ops::kAdamW) + count(made, ops::kSumOfSquares), 0);
  EXPECT_EQ(count(made, ops::kMultiAdamW), 1);
  EXPECT_EQ(count(made, ops::kMultiSumOfSquares), 1);
  const auto inputs = testing::random_inputs(updates.graph, 1);
  const auto expected = interpret(updates.graph, inputs), actual = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(actual[i], expected[i]) << made.outputs[i].name;
  const KernelTable kernels = cpu_kernel_table();
  const Executable executable = compile(made, kernels);
  EXPECT_EQ(executable.copies, 0);
  EXPECT_TRUE(executable.reference_kernels.empty());
}

TEST(JoinUpdates, StochasticRoundingKeepsEachTensorsDraw) {
  Updates updates(4);
  for (size_t i = 0; i < 4; ++i)
    updates.update(i, updates.one, {.rounding = ops::StochasticRounding{5, static_cast<int64_t>(3 * i)}}, DType::bf16);
  const Graph made = joined(updates.graph);
  EXPECT_EQ(count(made, ops::kMultiAdamW), 1);
  const auto inputs = testing::random_inputs(updates.graph, 2);
  const auto expected = interpret(updates.graph, inputs), actual = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(actual[i], expected[i]) << made.outputs[i].name;
}

TEST(JoinUpdates, OtherRulesAndScalarsStandApart) {
  Updates updates(5);
  const Value two = ops::constant(updates.b, 2.0, {DType::f32, {}});
  updates.update(0, updates.one, {});
  updates.update(1, two, {});
  updates.update(2, updates.one, {.beta2 = 0.99});
  updates.update(3, updates.one, {}, DType::bf16);
  updates.update(4, updates.one, {});
  const Graph made = joined(updates.graph);
  EXPECT_EQ(count(made, ops::kAdamW), 3);
  EXPECT_EQ(count(made, ops::kMultiAdamW), 1);
}

// The second update's gradient is made of the first one's result.
TEST(JoinUpdates, WhatDependsOnAMemberStaysOut) {
  Updates updates(3);
  const auto first = updates.update(0, updates.one, {});
  updates.update(1, updates.one, {});
  const Value total = ops::reduce_all(updates.b, first.param);
  updates.grads[2] = ops::add(updates.b, updates.grads[2], ops::broadcast_last(updates.b, total, {3, 5}));
  updates.update(2, updates.one, {});
  const Graph made = joined(updates.graph);
  const auto inputs = testing::random_inputs(updates.graph, 3);
  const auto expected = interpret(updates.graph, inputs), actual = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(actual[i], expected[i]) << made.outputs[i].name;
}

TEST(JoinUpdates, WithoutAKernelNothingChanges) {
  Updates updates(3);
  for (size_t i = 0; i < 3; ++i) updates.update(i, updates.norm(), {});
  EXPECT_TRUE(same_computation(join_updates(updates.graph, KernelTable()), updates.graph));
}

// Fully sharded and zero1 (whose gathers read the updates) on two devices: local graphs, no copies that
// were not there before.
TEST(JoinUpdates, ShardedStepsCopyNoMore) {
  for (const testing::Layout& layout :
       {testing::Layout{"data=2", "embed=data", "batch=data", ""}, {"data=2", "", "batch=data", "embed=data mlp=data"}}) {
    const Graph step = testing::partitioned(testing::mlp_step(3, 4, 8, 16), layout);
    const Graph made = joined(step);
    EXPECT_GE(count(made, ops::kMultiAdamW), 1);
    EXPECT_EQ(count(made, ops::kAdamW), 0);
    const KernelTable kernels = cpu_kernel_table();
    EXPECT_EQ(compile(made, kernels).copies, compile(step, kernels).copies);
  }
}

}  // namespace
}  // namespace tessera
