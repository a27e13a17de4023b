#include "core/passes/accumulate_products.h"

#include <gtest/gtest.h>

#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/runtime/thread_run.h"
#include "kernels/cpu/register.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

// The pass changes the order of sums: nothing more.
void expect_close(const Graph& made, const Graph& plain, double tolerance) {
  verify(made, GraphStage::built);
  const KernelTable kernels = cpu_kernel_table();
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), interpreted = interpret(made, inputs),
             run = run_on_threads(made, kernels, inputs);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(max_relative_error(interpreted[i], expected[i], 1e-3), tolerance);
    EXPECT_LE(max_relative_error(run[i], expected[i], 1e-3), tolerance);
  }
}

struct Sum {
  Graph graph;
  Builder b{graph};
  Value acc, x, y, product;
  explicit Sum(DType dtype = DType::f64, DType sum = DType::f64)
      : acc(b.input(InputKind::accumulator, "acc", {sum, {24, 40}})),
        x(b.input(InputKind::data, "x", {dtype, {16, 24}})),
        y(b.input(InputKind::data, "y", {dtype, {16, 40}})),
        product(ops::dot_general(b, x, y, {{0}, {0}}, sum)) {}
};

TEST(AccumulateProducts, AProductGoesIntoItsAccumulator) {
  for (const bool swapped : {false, true}) {
    Sum s;
    s.b.output(swapped ? ops::add(s.b, s.product, s.acc) : ops::add(s.b, s.acc, s.product), "acc",
               0);
    const Graph made = accumulate_products(s.graph);
    EXPECT_EQ(count(made, ops::kDotGeneralAdd), 1);
    EXPECT_EQ(made.instructions.size(), 4u);
    const KernelTable kernels = cpu_kernel_table();
    const Executable executable = compile(made, kernels);
    EXPECT_EQ(executable.steps.size(), 1u);
    EXPECT_EQ(executable.copies, 0);
    EXPECT_EQ(executable.memory.scratch_bytes, 0) << "the product needs no buffer of its own";
    EXPECT_TRUE(executable.reference_kernels.empty());
    expect_close(made, s.graph, 1e-12);
  }
}

TEST(AccumulateProducts, NarrowOperandsAddToAnF32Accumulator) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Sum s(dtype, DType::f32);
    s.b.output(ops::add(s.b, s.acc, s.product), "acc", 0);
    const Graph made = accumulate_products(s.graph);
    EXPECT_EQ(count(made, ops::kDotGeneralAdd), 1);
    expect_close(made, s.graph, 1e-5);
  }
}

// Other addends first, then the products, one into the other's memory.
TEST(AccumulateProducts, SeveralAddendsBecomeAChain) {
  Sum s;
  const Value second = ops::dot_general(s.b, ops::tanh(s.b, s.x), s.y, {{0}, {0}});
  const Value other = ops::tanh(s.b, ops::scale(s.b, s.acc, 0.5));
  s.b.output(ops::add(s.b, ops::add(s.b, s.product, other), ops::add(s.b, s.acc, second)), "acc", 0);
  const Graph made = accumulate_products(s.graph);
  EXPECT_EQ(count(made, ops::kDotGeneralAdd), 2);
  EXPECT_EQ(count(made, ops::kAdd), 1);
  expect_close(made, s.graph, 1e-12);
}

TEST(AccumulateProducts, WhatIsReadElsewhereOrNoAccumulatorStays) {
  {
    Sum s;  // the product is an output too
    s.b.output(ops::add(s.b, s.acc, s.product), "acc", 0);
    s.b.output(s.product, "product");
    EXPECT_EQ(count(accumulate_products(s.graph), ops::kDotGeneralAdd), 0);
  }
  {
    Sum s;  // overwrites nothing
    s.b.output(ops::add(s.b, s.acc, s.product), "sum");
    EXPECT_EQ(count(accumulate_products(s.graph), ops::kDotGeneralAdd), 0);
  }
  {
    Sum s;  // twice the accumulator
    s.b.output(ops::add(s.b, ops::add(s.b, s.acc, s.acc), s.product), "acc", 0);
    const Graph made = accumulate_products(s.graph);
    EXPECT_EQ(count(made, ops::kDotGeneralAdd), 0);
    expect_close(made, s.graph, 1e-12);
  }
}

// A loop over microbatches: the carried gradient is the accumulator.
TEST(AccumulateProducts, ALoopAddsIntoWhatItCarries) {
  auto region = [](auto body) {
    auto graph = std::make_shared<Graph>();
    Builder b(*graph);
    const Value acc = b.input(InputKind::data, "acc", {DType::f64, {24, 40}});
    const Value x = b.input(InputKind::data, "x", {DType::f64, {16, 24}});
    const Value y = b.input(InputKind::data, "y", {DType::f64, {16, 40}});
    body(b, acc, x, y);
    return graph;
  };
  const GraphRef condition = region([](Builder& b, Value, Value, Value) {
    b.output(ops::constant(b, 1.0, {DType::pred, {}}), "go");
  });
  const GraphRef body = region([](Builder& b, Value acc, Value x, Value y) {
    b.output(ops::add(b, acc, ops::dot_general(b, x, y, {{0}, {0}})), "acc");
    b.output(ops::scale(b, x, 0.5), "x");
    b.output(y, "y");
  });
  Graph graph;
  Builder b(graph);
  const Value acc = b.input(InputKind::accumulator, "acc", {DType::f64, {24, 40}});
  const Value x = b.input(InputKind::data, "x", {DType::f64, {16, 24}});
  const Value y = b.input(InputKind::data, "y", {DType::f64, {16, 40}});
  b.output(ops::while_loop(b, {acc, x, y}, condition, body, 3)[0], "acc", 0);
  const Graph made = accumulate_products(graph);
  const KernelTable kernels = cpu_kernel_table();
  const Executable executable = compile(made, kernels);
  int products = 0;
  for (const Step& step : executable.steps)
    if (const auto* kernel = std::get_if<KernelStep>(&step))
      products +=
          executable.instruction_of(kernel->region, kernel->instruction).is(ops::kDotGeneralAdd);
  EXPECT_EQ(products, 1);
  EXPECT_LE(executable.memory.scratch_bytes, 16 * 24 * 8) << "the carried x, and no gradient";
  const auto inputs = values(graph);
  const auto run = run_on_threads(made, kernels, inputs);
  HostTensor expected = inputs[0];
  double factor = 1 + 0.5 + 0.25;
  for (int64_t i = 0; i < 24; ++i)
    for (int64_t j = 0; j < 40; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < 16; ++k)
        sum += inputs[1].get_real(k * 24 + i) * inputs[2].get_real(k * 40 + j);
      expected.set_real(i * 40 + j, inputs[0].get_real(i * 40 + j) + factor * sum);
    }
  EXPECT_LE(max_relative_error(run[0], expected, 1e-3), 1e-12);
}

}  // namespace
}  // namespace tessera
