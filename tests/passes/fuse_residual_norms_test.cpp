#include "core/passes/fuse_residual_norms.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/norm.h"
#include "core/ops/residual_norm.h"
#include "core/ops/structure.h"
#include "core/passes/algebraic.h"
#include "kernels/cpu/register.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

// A table with the four ops, computed by their evaluation.
KernelTable accepting() {
  KernelTable table;
  for (const OpDef* op : {&ops::kAddLayerNorm, &ops::kAddRmsNorm, &ops::kLayerNormGradAdd, &ops::kRmsNormGradAdd}) {
    Kernel kernel = reference_kernel();
    kernel.name = "test";
    kernel.is_reference = false;
    kernel.accept = [](const OpCall&, std::span<const TensorType>) { return std::optional<std::string>(); };
    table.add(*op, kernel);
  }
  return table;
}

// Errors are relative to |expected|, or to `least` where that is less.
Graph check(const Graph& plain, double tolerance, double least = 1e-3) {
  const Graph made = fuse_residual_norms(plain, accepting());
  verify(made, GraphStage::built);
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), actual = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LE(max_relative_error(actual[i], expected[i], least), tolerance) << plain.outputs[i].name;
  return made;
}

// Layers of x + f(norm(x)), with gradients of all inputs.
struct Stream {
  Graph graph;
  Builder b{graph};
  std::vector<Value> inputs;

  Value input(const char* name, DType dtype, const Shape& shape) {
    inputs.push_back(b.input(InputKind::data, name, {dtype, shape}));
    return inputs.back();
  }
  Stream(DType dtype, bool is_centred, int layers = 3) {
    Value x = input("x", dtype, {2, 3, 8});
    const DType statistics = dtype == DType::f64 ? dtype : DType::f32;
    for (int layer = 0; layer < layers; ++layer) {
      const Value gamma = input("gamma", statistics, {8}), beta = input("beta", statistics, {8});
      const Value y = is_centred ? ops::layer_norm(b, x, gamma, beta, 1e-5).y : ops::rms_norm(b, x, gamma, 1e-5).y;
      x = ops::add(b, x, ops::dot_general(b, y, input("w", dtype, {8, 8}), {{2}, {0}}));
    }
    const Value loss = ops::reduce_all(b, ops::convert(b, ops::multiply(b, x, x), statistics));
    b.output(loss, "loss");
    const std::vector<Value> found = gradients(b, loss, inputs);
    for (size_t i = 0; i < found.size(); ++i)
      if (found[i].valid()) b.output(found[i], cat("d", i));
    graph = simplify_algebra(graph);
  }
};

// The first norm has no sum before it, and the last sum no norm behind it.
TEST(FuseResidualNorms, SumsJoinTheNormsBesideThem) {
  for (const DType dtype : {DType::f64, DType::bf16}) {
    // Gradients are sums that cancel, and are rounded once less.
    const double tolerance = dtype == DType::f64 ? 1e-12 : 6e-2, least = dtype == DType::f64 ? 1e-3 : 1;
    const Graph centred = check(Stream(dtype, true).graph, tolerance, least);
    EXPECT_EQ(count(centred, ops::kAddLayerNorm), 2);
    EXPECT_EQ(count(centred, ops::kLayerNorm), 1);
    EXPECT_EQ(count(centred, ops::kLayerNormGradAdd), 3);
    EXPECT_EQ(count(centred, ops::kLayerNormGrad), 0);
    const Graph plain = check(Stream(dtype, false).graph, tolerance, least);
    EXPECT_EQ(count(plain, ops::kAddRmsNorm), 2);
    EXPECT_EQ(count(plain, ops::kRmsNormGradAdd), 3);
  }
}

// The forward direction has the bits of before, in bf16 as well.
TEST(FuseResidualNorms, TheSumIsRoundedAsBefore) {
  Graph graph;
  Builder b(graph);
  const TensorType type{DType::bf16, {5, 16}};
  const Value x = b.input(InputKind::data, "x", type), r = b.input(InputKind::data, "r", type),
              gamma = b.input(InputKind::data, "gamma", {DType::f32, {16}});
  const Value sum = ops::add(b, x, ops::dot_general(b, r, b.input(InputKind::data, "w", {DType::bf16, {16, 16}}), {{1}, {0}}));
  b.output(ops::rms_norm(b, sum, gamma, 1e-5).y, "y");
  b.output(sum, "sum");
  EXPECT_EQ(count(check(graph, 0), ops::kAddRmsNorm), 1);
}

TEST(FuseResidualNorms, ChainsAndKernelsDecide) {
  Graph graph;
  Builder b(graph);
  const TensorType type{DType::f64, {5, 16}};
  const Value x = b.input(InputKind::data, "x", type), gamma = b.input(InputKind::data, "gamma", {DType::f64, {16}});
  b.output(ops::rms_norm(b, ops::add(b, x, ops::tanh(b, x)), gamma, 1e-5).y, "y");
  EXPECT_EQ(count(check(graph, 0), ops::kAddRmsNorm), 0) << "tanh and the sum are one fusion";
  const Graph plain = Stream(DType::f64, true).graph;
  const Graph made = fuse_residual_norms(plain, cpu_kernel_table());
  EXPECT_EQ(made.instructions.size(), plain.instructions.size()) << "the CPU has no such kernels";
}

// Weights made of the sum, and a residual made of the gradient's own sums.
TEST(FuseResidualNorms, WhatDependsOnTheOtherStays) {
  Graph graph;
  Builder b(graph);
  const TensorType type{DType::f64, {5, 16}};
  const Value x = b.input(InputKind::data, "x", type), r = b.input(InputKind::data, "r", type),
              gamma = b.input(InputKind::data, "gamma", {DType::f64, {16}});
  const Value sum = ops::add(b, x, r);
  const Value weights = ops::reduce(b, sum, {0});
  const ops::RmsNormResult norm = ops::rms_norm(b, sum, weights, 1e-5);
  b.output(norm.y, "y");
  const auto gradient = ops::rms_norm_grad(b, x, gamma, norm.rstd, r);
  b.output(ops::add(b, gradient.dx, ops::broadcast_last(b, gradient.dgamma, {5, 16})), "dx");
  const Graph made = check(graph, 0);
  EXPECT_EQ(count(made, ops::kAddRmsNorm), 0);
  EXPECT_EQ(count(made, ops::kRmsNormGradAdd), 0);
}

// Every pair reads what the one before has made.
TEST(FuseResidualNorms, LongStreamsAreFusedToTheirEnd) {
  constexpr int kLayers = 200;
  const Graph made = fuse_residual_norms(Stream(DType::f64, false, kLayers).graph, accepting());
  verify(made, GraphStage::built);
  EXPECT_EQ(count(made, ops::kAddRmsNorm), kLayers - 1);
  EXPECT_EQ(count(made, ops::kRmsNormGradAdd), kLayers);
}

// The weights of two norms are each made of the other's sum: either of them can be fused, and so can what
// reads the results of both.
TEST(FuseResidualNorms, NoTwoPairsWaitForEachOther) {
  Graph graph;
  Builder b(graph);
  const TensorType type{DType::f64, {5, 16}};
  const Value x = b.input(InputKind::data, "x", type), r = b.input(InputKind::data, "r", type),
              s = b.input(InputKind::data, "s", type);
  const Value left = ops::add(b, x, r), right = ops::add(b, x, s);
  const Value of_left = ops::reduce(b, left, {0}), of_right = ops::reduce(b, right, {0});
  const Value y = ops::rms_norm(b, left, of_right, 1e-5).y, z = ops::rms_norm(b, right, of_left, 1e-5).y;
  const Value sum = ops::add(b, y, z);
  b.output(ops::rms_norm(b, sum, of_left, 1e-5).y, "last");
  b.output(z, "z");
  b.output(left, "left");
  b.output(right, "right");
  const Graph made = check(graph, 0);
  EXPECT_EQ(count(made, ops::kAddRmsNorm), 2);
  EXPECT_EQ(count(made, ops::kRmsNorm), 1);
}

// A sum before one norm and behind another's gradient goes to the gradient, and a sum before two norms to the first.
TEST(FuseResidualNorms, ASumJoinsOneNorm) {
  Graph graph;
  Builder b(graph);
  const TensorType type{DType::f64, {5, 16}};
  const Value x = b.input(InputKind::data, "x", type), r = b.input(InputKind::data, "r", type),
              gamma = b.input(InputKind::data, "gamma", {DType::f64, {16}}),
              rstd = b.input(InputKind::data, "rstd", {DType::f64, {5}});
  const auto gradient = ops::rms_norm_grad(b, x, gamma, rstd, r);
  b.output(ops::rms_norm(b, ops::add(b, gradient.dx, x), gamma, 1e-5).y, "behind");
  const Value sum = ops::add(b, x, r);
  b.output(ops::rms_norm(b, sum, gamma, 1e-5).y, "first");
  b.output(ops::rms_norm(b, sum, gamma, 1e-3).y, "second");
  const Graph made = check(graph, 0);
  EXPECT_EQ(count(made, ops::kRmsNormGradAdd), 1);
  EXPECT_EQ(count(made, ops::kAddRmsNorm), 1);
  EXPECT_EQ(count(made, ops::kRmsNorm), 2);
}

}  // namespace
}  // namespace tessera
