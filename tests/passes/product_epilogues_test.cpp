#include "core/passes/product_epilogues.h"

#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/accumulate.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/product_epilogue.h"
#include "core/ops/structure.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/dead_code.h"
#include "kernels/cpu/register.h"
#include "models/training_step.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

// Kernels that take these ops, whatever the shapes; they are never run.
KernelTable table_of(std::initializer_list<const OpDef*> taken) {
  KernelTable table;
  for (const OpDef* op : taken) {
    Kernel kernel;
    kernel.name = "test.any";
    kernel.run = [](const KernelArgs&) {};
    kernel.accept = [](const OpCall&, std::span<const TensorType>) -> std::optional<std::string> { return {}; };
    table.add(*op, kernel);
  }
  return table;
}
KernelTable all_taken() {
  return table_of(
      {&ops::kDotGeneralBias, &ops::kDotGeneralBiasGelu, &ops::kDotGeneralGeluGrad, &ops::kDotGeneralBiasGrad});
}

void expect_equal(const Graph& made, const Graph& plain, double tolerance = 1e-12) {
  verify(made, GraphStage::built);
  const auto inputs = values(plain);
  const auto expected = interpret(plain, inputs), got = interpret(made, inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LE(max_relative_error(got[i], expected[i], 1e-3), tolerance) << plain.outputs[i].name;
}

// x [2, 6, 8] times w [8, 3, 4], and a bias [3, 4].
struct Linear {
  Graph graph;
  Builder b{graph};
  Value x, w, bias, product, sum;
  explicit Linear(DType dtype = DType::f64, bool swapped = false)
      : x(b.input(InputKind::data, "x", {dtype, {2, 6, 8}})),
        w(b.input(InputKind::parameter, "w", {dtype, {8, 3, 4}})),
        bias(b.input(InputKind::parameter, "bias", {dtype, {3, 4}})),
        product(ops::matmul(b, x, w)) {
    const Value wide = ops::broadcast_last(b, bias, b.shape(product));
    sum = swapped ? ops::add(b, wide, product) : ops::add(b, product, wide);
  }
};

TEST(ProductEpilogues, ABias) {
  for (const bool swapped : {false, true}) {
    Linear s(DType::f64, swapped);
    s.b.output(s.sum, "y");
    const Graph made = fuse_product_epilogues(s.graph, all_taken());
    EXPECT_EQ(made.instructions.size(), 4u);
    EXPECT_EQ(count(made, ops::kDotGeneralBias), 1);
    EXPECT_EQ(made.type(made.outputs[0].value), (TensorType{DType::f64, {2, 6, 3, 4}}));
    expect_equal(made, s.graph);
  }
}

TEST(ProductEpilogues, BiasAndGeluKeepWhatTheGradientReads) {
  Linear s;
  s.b.output(ops::gelu(s.b, s.sum, true), "y");
  s.b.output(s.sum, "x of gelu");
  const Graph made = fuse_product_epilogues(s.graph, all_taken());
  EXPECT_EQ(made.instructions.size(), 4u);
  EXPECT_EQ(made.outputs[0].value, (Value{3, 0}));
  EXPECT_EQ(made.outputs[1].value, (Value{3, 1}));
  expect_equal(made, s.graph);
  // A backend that can add biases only.
  const Graph partly = fuse_product_epilogues(s.graph, table_of({&ops::kDotGeneralBias}));
  EXPECT_EQ(count(partly, ops::kDotGeneralBias), 1);
  EXPECT_EQ(count(partly, ops::kGelu), 1);
  expect_equal(partly, s.graph);
}

struct Backward {
  Graph graph;
  Builder b{graph};
  Value x, dy, w, acc, product;
  explicit Backward(DType dtype = DType::f64)
      : x(b.input(InputKind::data, "x", {dtype, {2, 6, 8}})),
        dy(b.input(InputKind::data, "dy", {dtype, {2, 6, 4}})),
        w(b.input(InputKind::parameter, "w", {dtype, {8, 4}})) {}
  Value sums(DType dtype) { return ops::reduce(b, b.dtype(dy) == dtype ? dy : ops::convert(b, dy, dtype), {0, 1}); }
};

TEST(ProductEpilogues, TheGradientOfGelu) {
  Backward s;
  const Value dx = ops::dot_general(s.b, s.dy, s.w, {{2}, {1}});
  s.b.output(ops::gelu_grad(s.b, s.x, dx, true), "dx");
  const Graph made = fuse_product_epilogues(s.graph, all_taken());
  EXPECT_EQ(made.instructions.size(), 4u);
  EXPECT_EQ(count(made, ops::kDotGeneralGeluGrad), 1);
  expect_equal(made, s.graph);
}

// Sums stand before their product, and their user behind it or before it.
TEST(ProductEpilogues, TheGradientOfABias) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const bool adds : {false, true})
      for (const bool early : {false, true}) {
        Backward s(dtype);
        const DType wide = dtype == DType::bf16 ? DType::f32 : dtype;
        const Value sums = s.sums(wide);
        if (early) s.b.output(ops::negate(s.b, sums), "early");
        Value dw = ops::dot_general(s.b, s.x, s.dy, {{0, 1}, {0, 1}}, wide);
        if (adds) dw = ops::add(s.b, s.b.input(InputKind::accumulator, "acc", {wide, {8, 4}}), dw);
        s.b.output(dw, "dw", adds ? 3 : -1);
        s.b.output(ops::negate(s.b, sums), "db");
        const Graph before = accumulate_products(s.graph), made = fuse_product_epilogues(before, all_taken());
        EXPECT_EQ(count(made, ops::kDotGeneralBiasGrad), 1);
        EXPECT_EQ(count(made, ops::kDotGeneralAdd) + count(made, ops::kDotGeneral) + count(made, ops::kReduce), 0);
        EXPECT_EQ(count(made, ops::kConvert), 0);
        expect_equal(made, before, dtype == DType::f64 ? 1e-12 : 1e-6);
      }
}

TEST(ProductEpilogues, StaysWhereItMayNotOrNobodyCan) {
  const auto expect_unchanged = [](const Graph& graph, const KernelTable& table) {
    EXPECT_EQ(fuse_product_epilogues(graph, table).instructions.size(), graph.instructions.size());
  };
  {
    Linear s;
    s.b.output(ops::gelu(s.b, s.sum, true), "y");
    expect_unchanged(s.graph, cpu_kernel_table());
  }
  {  // somebody else reads the product
    Linear s;
    s.b.output(s.sum, "y");
    s.b.output(ops::negate(s.b, s.product), "z");
    expect_unchanged(s.graph, all_taken());
  }
  {  // GELU by erf
    Linear s;
    s.b.output(ops::gelu(s.b, s.sum, false), "y");
    const Graph made = fuse_product_epilogues(s.graph, all_taken());
    EXPECT_EQ(count(made, ops::kDotGeneralBias) + count(made, ops::kGelu), 2);
    Backward t;
    t.b.output(ops::gelu_grad(t.b, t.x, ops::dot_general(t.b, t.dy, t.w, {{2}, {1}}), false), "dx");
    expect_unchanged(t.graph, all_taken());
  }
  {  // recomputed apart from what is not
    Linear s;
    s.b.output(s.sum, "y");
    s.graph.at(s.product).recompute = true;
    expect_unchanged(s.graph, all_taken());
  }
  {  // a bias along one of rhs' two dims
    Graph graph;
    Builder b(graph);
    const Value product = ops::matmul(b, b.input(InputKind::data, "x", {DType::f64, {6, 8}}),
                                      b.input(InputKind::parameter, "w", {DType::f64, {8, 3, 4}}));
    const Value bias = b.input(InputKind::parameter, "bias", {DType::f64, {4}});
    b.output(ops::add(b, product, ops::broadcast_last(b, bias, b.shape(product))), "y");
    expect_unchanged(graph, all_taken());
  }
  {  // sums over other dims than the product's
    Backward s;
    s.b.output(ops::reduce(s.b, s.dy, {0}), "sums");
    s.b.output(ops::dot_general(s.b, s.x, s.dy, {{0, 1}, {0, 1}}), "dw");
    expect_unchanged(s.graph, all_taken());
  }
  {  // the product reads what the sums become
    Backward s;
    const Value sums = s.sums(DType::f64);
    const Value x = ops::add(s.b, s.x, ops::broadcast_last(s.b, ops::concatenate(s.b, {sums, sums}, 0), {2, 6, 8}));
    s.b.output(ops::dot_general(s.b, x, s.dy, {{0, 1}, {0, 1}}), "dw");
    expect_unchanged(s.graph, all_taken());
  }
}

// All that a GPT-2 step holds: six biases and one GELU a layer.
TEST(ProductEpilogues, AGptStep) {
  models::StepConfig config;
  config.model = {.family = models::Family::gpt2, .layers = 2, .embed = 16, .heads = 4, .kv_heads = 4, .head_dim = 4,
                  .mlp = 32, .vocab = 30, .padded_vocab = 32, .context = 8, .tied_embeddings = true};
  config.batch = 2;
  config.length = 8;
  for (const DType compute : {DType::f64, DType::bf16})
    for (const RematPolicy remat : {RematPolicy::none, RematPolicy::full}) {
      config.compute = compute;
      config.remat = remat;
      const Graph before = accumulate_products(eliminate_dead_code(models::build_accumulate(config)));
      const Graph made = fuse_product_epilogues(before, all_taken());
      const int times = remat == RematPolicy::none ? 1 : 2;
      EXPECT_GE(count(made, ops::kDotGeneralBias), 10);
      EXPECT_EQ(count(made, ops::kDotGeneralBiasGelu), 2 * times);
      EXPECT_EQ(count(made, ops::kDotGeneralGeluGrad), 2);
      EXPECT_EQ(count(made, ops::kDotGeneralBiasGrad), 12);
      EXPECT_EQ(count(made, ops::kGelu) + count(made, ops::kGeluGrad), 0);
      std::vector<HostTensor> inputs = values(before);
      for (HostTensor& input : inputs)
        for (int64_t i = 0; i < input.elements(); ++i)
          is_integer(input.dtype()) ? input.set_int(i, (7 * i) % 30) : input.set_real(i, 0.3 * input.get_real(i));
      const auto expected = interpret(before, inputs), got = interpret(made, inputs);
      for (size_t o = 0; o < expected.size(); ++o)
        EXPECT_LE(max_relative_error(got[o], expected[o], 0.1), compute == DType::f64 ? 1e-9 : 0.1)
            << before.outputs[o].name;
    }
}

}  // namespace
}  // namespace tessera
