#include "core/passes/expand_fp8.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/fp8_product.h"
#include "core/ops/max_abs.h"
#include "core/ops/structure.h"
#include "models/training_step.h"
#include "tests/models/test_model.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

int conversions_to(const Graph& graph, DType dtype) {
  int found = 0;
  for (const Instruction& it : graph.instructions) found += it.is(ops::kConvert) && it.results[0].type.dtype == dtype;
  return found;
}

// Rounding is exact in both; sums differ in the width they are added in.
void expect_equal(const Graph& made, const Graph& plain, double tolerance) {
  verify(made, GraphStage::built);
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), got = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LE(max_relative_error(got[i], expected[i], 1e-3), tolerance) << plain.outputs[i].name;
}

// Two layers over one input, and gradients of all.
Graph two_layers(DType dtype, RematPolicy remat = RematPolicy::none) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {dtype, {2, 6, 8}});
  const Value w1 = b.input(InputKind::parameter, "w1", {dtype, {8, 3, 4}});
  const Value w2 = b.input(InputKind::parameter, "w2", {dtype, {8, 12}});
  Value loss;
  {
    const ScopeGuard guard(b, "block.0");
    const Value scaled = ops::scale(b, x, 0.5);
    const Value y1 = ops::reshape(b, ops::dot_general_fp8(b, scaled, w1, {{2}, {0}}), {2, 6, 12});
    const Value y2 = ops::dot_general_fp8(b, scaled, w2, {{2}, {0}});
    loss = ops::reduce_all(b, ops::multiply(b, y1, y2));
  }
  const Value wrt[] = {x, w1, w2};
  for (const Value gradient : gradients(b, loss, wrt, {.remat = remat})) b.output(gradient, "g");
  return graph;
}

TEST(ExpandFp8, IsWhatTheCompositesAre) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Graph plain = two_layers(dtype);
    const Graph made = expand_fp8_products(plain);
    EXPECT_EQ(count(made, ops::kDotGeneralFp8) + count(made, ops::kDotGeneralFp8GradLeft) +
                  count(made, ops::kDotGeneralFp8GradRight),
              0);
    EXPECT_EQ(count(made, ops::kDotGeneral), 6);
    expect_equal(made, plain, dtype == DType::f32 ? 1e-5 : 0.02);
  }
}

TEST(ExpandFp8, EachValueIsQuantizedOnce) {
  const Graph made = expand_fp8_products(two_layers(DType::bf16));
  EXPECT_EQ(conversions_to(made, DType::f8e4m3fn), 3);  // x, w1, w2
  EXPECT_EQ(conversions_to(made, DType::f8e5m2), 2);    // the cotangents of y1 and y2
  EXPECT_EQ(count(made, ops::kMaxAbs), 5);
}

TEST(ExpandFp8, WhatIsRecomputedIsQuantizedAnew) {
  const Graph plain = two_layers(DType::f32, RematPolicy::full);
  const Graph made = expand_fp8_products(plain);
  EXPECT_EQ(conversions_to(made, DType::f8e4m3fn), 4);  // x twice
  int recomputed = 0;
  for (const Instruction& it : made.instructions) recomputed += it.is(ops::kMaxAbs) && it.recompute;
  EXPECT_EQ(recomputed, 1);
  expect_equal(made, plain, 1e-5);
}

TEST(ExpandFp8, ATrainingStepOfBothFamilies) {
  for (const auto family : {models::Family::gpt2, models::Family::llama}) {
    models::StepConfig config = models::tiny_step(family, DType::f32);
    config.fp8 = true;
    const Graph plain = models::build_step(config, false);
    const int products = family == models::Family::gpt2 ? 2 * 6 : 2 * 7;
    EXPECT_EQ(count(plain, ops::kDotGeneralFp8), products);
    EXPECT_EQ(count(plain, ops::kDotGeneralFp8GradLeft) + count(plain, ops::kDotGeneralFp8GradRight), 2 * products);
    EXPECT_EQ(count(plain, ops::kDotGeneral), 3);  // logits
    const Graph made = expand_fp8_products(plain);
    models::Tensors state;
    models::add_initial_state(config, plain, state);
    models::add_batch(config, 1, 0, state);
    verify(made, GraphStage::built);
  }
}

}  // namespace
}  // namespace tessera
