#include "core/passes/fuse_cross_entropy.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/autodiff/autodiff.h"
#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/loss.h"
#include "core/ops/structure.h"
#include "core/passes/algebraic.h"
#include "core/runtime/thread_run.h"
#include "kernels/cpu/register.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

constexpr int64_t kRows = 6, kColumns = 20, kValid = 17;

// The gradient of an objective made of loss and lse, as autodiff writes it.
struct Loss {
  Graph graph;
  Builder b{graph};
  Value logits, targets, weights;
  ops::CrossEntropyResult entropy;

  explicit Loss(DType dtype = DType::f64)
      : logits(b.input(InputKind::data, "logits", {dtype, {kRows, kColumns}})),
        targets(b.input(InputKind::data, "targets", {DType::s32, {kRows}})),
        weights(b.input(InputKind::data, "weights", {dtype == DType::f64 ? dtype : DType::f32, {kRows}})),
        entropy(ops::softmax_cross_entropy(b, logits, targets, kValid)) {}

  Graph with_gradient(Value objective) {
    const Value sum = ops::reduce_all(b, objective);
    b.output(sum, "loss");
    b.output(gradients(b, sum, std::vector{logits})[0], "dlogits");
    return simplify_algebra(graph);
  }
  Value weighted() { return ops::multiply(b, entropy.loss, weights); }
  // The penalty of lse, `scale` times.
  Value with_z_loss(double scale) {
    const Value square = ops::multiply(b, entropy.lse, entropy.lse);
    return ops::add(b, weighted(), ops::scale(b, ops::multiply(b, square, weights), scale));
  }
};

Graph check_merge(const Graph& plain, bool is_merged, double tolerance = 1e-12) {
  const KernelTable kernels = cpu_kernel_table();
  const Graph made = fuse_cross_entropy(plain, kernels);
  verify(made, GraphStage::built);
  EXPECT_EQ(count(made, ops::kCrossEntropyWithGrad), is_merged);
  for (const OpDef* op : {&ops::kLogitsMax, &ops::kLogitsSum, &ops::kLogitsSumGrad})
    EXPECT_EQ(count(made, *op), !is_merged) << op->name;
  std::vector<HostTensor> inputs = values(plain);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (is_integer(inputs[i].dtype()))
      for (int64_t r = 0; r < inputs[i].elements(); ++r) inputs[i].set_int(r, (5 * r) % kValid);
  const auto expected = interpret(plain, inputs), interpreted = interpret(made, inputs),
             run = run_on_threads(made, kernels, inputs);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(max_relative_error(interpreted[i], expected[i], 1e-3), tolerance) << plain.outputs[i].name;
    EXPECT_LE(max_relative_error(run[i], expected[i], 1e-3), tolerance) << plain.outputs[i].name;
  }
  return made;
}

TEST(FuseCrossEntropy, WeightsAreKnownBeforehand) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    Loss loss(dtype);
    const Graph made = check_merge(loss.with_gradient(loss.weighted()), true,
                             dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 2e-2);
    for (const Instruction& instruction : made.instructions)
      if (instruction.is(ops::kCrossEntropyWithGrad)) {
        EXPECT_EQ(instruction.operands.size(), 4u);
      }
  }
}

TEST(FuseCrossEntropy, ZLossIsLinearInLse) {
  Loss loss;
  const Graph made = check_merge(loss.with_gradient(loss.with_z_loss(1e-2)), true);
  for (const Instruction& instruction : made.instructions)
    if (instruction.is(ops::kCrossEntropyWithGrad)) {
      EXPECT_EQ(instruction.operands.size(), 5u);
    }
  Loss alone;  // the offset is zero
  check_merge(alone.with_gradient(ops::multiply(alone.b, alone.entropy.lse, alone.entropy.lse)), true);
}

// The old parts die, and logits nobody else reads are written over.
TEST(FuseCrossEntropy, GradientsLieOverTheLogits) {
  Loss loss;
  const Value logits = ops::tanh(loss.b, loss.logits);
  const auto entropy = ops::softmax_cross_entropy(loss.b, logits, loss.targets, kValid);
  const Value sum = ops::reduce_all(loss.b, ops::multiply(loss.b, entropy.loss, loss.weights));
  loss.b.output(sum, "loss");
  const Value gradient = gradients(loss.b, sum, std::vector{logits})[0];
  loss.b.output(ops::reduce_all(loss.b, ops::multiply(loss.b, gradient, gradient)), "norm");
  const KernelTable kernels = cpu_kernel_table();
  const Executable made = compile(fuse_cross_entropy(simplify_algebra(loss.graph), kernels), kernels);
  EXPECT_LT(made.memory.scratch_bytes, 2 * kRows * kColumns * 8);
}

// Cotangents that depend on the loss otherwise (focal weights), and sums that shards would share.
TEST(FuseCrossEntropy, WhatDependsOnTheLossStays) {
  {
    Loss loss;
    check_merge(loss.with_gradient(ops::multiply(loss.b, loss.entropy.loss, loss.entropy.loss)), false);
  }
  {
    Loss loss;
    check_merge(loss.with_gradient(ops::multiply(loss.b, loss.weighted(), ops::tanh(loss.b, loss.entropy.lse))), false);
  }
  {
    Loss loss;  // another maximum, as one that is reduced over shards
    const Value max = ops::maximum(loss.b, ops::logits_max(loss.b, loss.logits, kValid), loss.weights);
    const auto sums = ops::logits_sum(loss.b, loss.logits, max, loss.targets, kValid);
    loss.entropy.loss = ops::subtract(loss.b, ops::add(loss.b, max, ops::log(loss.b, sums.sum_exp)), sums.target_logit);
    const Graph graph = loss.with_gradient(loss.weighted());
    EXPECT_EQ(count(fuse_cross_entropy(graph, cpu_kernel_table()), ops::kCrossEntropyWithGrad), 0);
  }
}

// The second loss's weights are the first one's gradients, and the other way round: one of them stays.
TEST(FuseCrossEntropy, NoCycleOfTwoLosses) {
  Graph graph;
  Builder b(graph);
  const TensorType row{DType::f64, {kRows}}, type{DType::f64, {kRows, kColumns}};
  const Value targets = b.input(InputKind::data, "targets", {DType::s32, {kRows}}),
              weights = b.input(InputKind::data, "weights", row);
  struct Parts {
    Value logits, max;
    ops::LogitsSumResult sums;
  } parts[2];
  for (Parts& p : parts) {
    p.logits = b.input(InputKind::data, cat("logits", &p - parts), type);
    p.max = ops::logits_max(b, p.logits, kValid);
    p.sums = ops::logits_sum(b, p.logits, p.max, targets, kValid);
  }
  for (int i : {0, 1}) {
    const Parts &own = parts[i], &other = parts[1 - i];
    const Value weight = ops::multiply(b, weights, other.sums.target_logit);
    b.output(ops::logits_sum_grad(b, own.logits, own.max, targets, ops::divide(b, weight, own.sums.sum_exp),
                                  ops::negate(b, weight), kValid),
             cat("dlogits", i));
  }
  const Graph made = fuse_cross_entropy(graph, cpu_kernel_table());
  verify(made, GraphStage::built);
  EXPECT_EQ(count(made, ops::kCrossEntropyWithGrad), 1);
}

TEST(FuseCrossEntropy, NothingWithoutAKernel) {
  Loss loss;
  const Graph plain = loss.with_gradient(loss.weighted());
  EXPECT_EQ(count(fuse_cross_entropy(plain, KernelTable()), ops::kCrossEntropyWithGrad), 0);
}

}  // namespace
}  // namespace tessera
