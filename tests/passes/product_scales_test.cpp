#include "core/passes/product_scales.h"

#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/fp8_product.h"
#include "core/ops/scaled_product.h"
#include "core/ops/structure.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/expand_fp8.h"
#include "core/passes/product_epilogues.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

using Acceptance = std::optional<std::string>;

// Never run.
Kernel any_kernel() {
  Kernel kernel;
  kernel.name = "test.any";
  kernel.run = [](const KernelArgs&) {};
  kernel.accept = [](const OpCall&, std::span<const TensorType>) -> Acceptance { return {}; };
  return kernel;
}

// Kernels of scaled_dot_general that refuse a bias, or do not.
KernelTable table_of(bool with_bias) {
  KernelTable table;
  Kernel kernel = any_kernel();
  if (!with_bias)
    kernel.accept = [](const OpCall& call, std::span<const TensorType>) -> Acceptance {
      if (call.operands.size() == 4) return {};
      return "a bias";
    };
  table.add(ops::kScaledDotGeneral, kernel);
  return table;
}

// A layer in fp8 with a bias, in primitives.
Graph layer(DType dtype, bool also_without_bias = false) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {dtype, {2, 6, 8}});
  const Value w = b.input(InputKind::parameter, "w", {dtype, {8, 3, 4}});
  const Value bias = b.input(InputKind::parameter, "bias", {dtype, {3, 4}});
  const Value product = ops::dot_general_fp8(b, x, w, {{2}, {0}});
  b.output(ops::add(b, product, ops::broadcast_last(b, bias, b.shape(product))), "y");
  if (also_without_bias) b.output(product, "product");
  return expand_fp8_products(graph);
}

void expect_fused(const Graph& plain, const Graph& made, size_t operands, double tolerance) {
  verify(made, GraphStage::built);
  ASSERT_EQ(count(made, ops::kScaledDotGeneral), 1);
  EXPECT_EQ(count(made, ops::kDotGeneral), 0);
  for (const Instruction& it : made.instructions)
    EXPECT_TRUE(!it.is(ops::kScaledDotGeneral) || it.operands.size() == operands) << it.operands.size();
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), got = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LE(max_relative_error(got[i], expected[i], 1), tolerance) << plain.outputs[i].name;
}

TEST(ProductScales, AndTheBias) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Graph plain = layer(dtype);
    expect_fused(plain, fuse_product_scales(plain, table_of(true)), 5, dtype == DType::f32 ? 1e-5 : 0x1p-6);
    expect_fused(plain, fuse_product_scales(plain, table_of(false)), 4, dtype == DType::f32 ? 1e-6 : 0);
  }
}

TEST(ProductScales, WhatIsReadElsewhereStays) {
  const Graph plain = layer(DType::bf16, /*also_without_bias=*/true);
  expect_fused(plain, fuse_product_scales(plain, table_of(true)), 4, 0);
}

// Behind it: GELU of a layer, whose gradient reads what it is of, and what is added to an accumulator.
TEST(ProductScales, GeluAndAccumulatorsGoIntoWhatItMakes) {
  KernelTable table = table_of(true);
  for (const OpDef* op : {&ops::kScaledDotGeneralGelu, &ops::kScaledDotGeneralAdd}) table.add(*op, any_kernel());
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {2, 6, 8}});
  const Value w = b.input(InputKind::parameter, "w", {DType::f32, {8, 3, 4}});
  const Value bias = b.input(InputKind::parameter, "bias", {DType::f32, {3, 4}});
  const Value sum = b.input(InputKind::accumulator, "sum", {DType::f32, {2, 6, 3, 4}});
  const Value product = ops::dot_general_fp8(b, x, w, {{2}, {0}});
  const Value biased = ops::add(b, product, ops::broadcast_last(b, bias, b.shape(product)));
  b.output(ops::gelu(b, biased, /*is_approximate=*/true), "gelu");
  b.output(ops::gelu_grad(b, biased, sum, /*is_approximate=*/true), "grad");
  const Value other = ops::dot_general_fp8(b, ops::scale(b, x, 2), w, {{2}, {0}});
  b.output(ops::add(b, sum, other), "sum", 3);
  const Graph plain = expand_fp8_products(graph);
  const Graph made = fuse_product_epilogues(accumulate_products(fuse_product_scales(plain, table)), table);
  verify(made, GraphStage::built);
  EXPECT_EQ(count(made, ops::kScaledDotGeneralGelu), 1);
  EXPECT_EQ(count(made, ops::kScaledDotGeneralAdd), 1);
  for (const OpDef* op : {&ops::kScaledDotGeneral, &ops::kDotGeneral, &ops::kGelu}) EXPECT_EQ(count(made, *op), 0);
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), got = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LE(max_relative_error(got[i], expected[i], 1), 1e-5) << plain.outputs[i].name;
}

TEST(ProductScales, NothingWithoutKernels) {
  const Graph plain = layer(DType::bf16);
  EXPECT_EQ(fuse_product_scales(plain, KernelTable()).instructions.size(), plain.instructions.size());
}

}  // namespace
}  // namespace tessera
