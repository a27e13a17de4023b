#include "core/passes/elementwise_fusion.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/verifier.h"
#include "core/ops/elementwise.h"
#include "core/ops/fusion.h"
#include "core/ops/structure.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;
using testing::values;

const TensorType kMatrix{DType::f64, {4, 6}};

void expect_equal(const Graph& fused, const Graph& plain) {
  verify(fused, GraphStage::built);
  const auto a = interpret(fused, values(plain)), b = interpret(plain, values(plain));
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i], b[i]);
}

TEST(ElementwiseFusion, ChainWithBiasBecomesOneKernel) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix), bias = b.input(InputKind::data, "bias", {DType::f64, {6}});
  const Value sum = ops::add(b, x, ops::broadcast_last(b, bias, kMatrix.shape));
  b.output(ops::gelu(b, ops::scale(b, sum, 0.5), true), "y");
  const Graph fused = fuse_elementwise(graph);
  EXPECT_EQ(count(fused, ops::kFusion), 1);
  EXPECT_EQ(fused.instructions.size(), 3u);
  expect_equal(fused, graph);
}

TEST(ElementwiseFusion, ValuesReadOutsideAreResultsToo) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix);
  const Value h = ops::tanh(b, x);
  const Value y = ops::multiply(b, h, x);
  b.output(ops::reduce_all(b, h), "sum");
  b.output(y, "y");
  const Graph fused = fuse_elementwise(graph);
  EXPECT_EQ(count(fused, ops::kFusion), 1);
  expect_equal(fused, graph);
}

// y = h * reduce(h): the product needs a value that needs h, so they cannot be one kernel.
TEST(ElementwiseFusion, NoCycleThroughAReduction) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix);
  const Value h = ops::exponential(b, ops::negate(b, x));
  const Value total = ops::reduce_all(b, h);
  b.output(ops::divide(b, h, ops::broadcast_scalar(b, total, kMatrix.shape)), "softmax");
  const Graph fused = fuse_elementwise(graph);
  EXPECT_EQ(count(fused, ops::kFusion), 2);
  expect_equal(fused, graph);
}

TEST(ElementwiseFusion, RecomputedValuesStayApart) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix);
  const Value h = ops::tanh(b, ops::negate(b, x));
  b.set_recompute(true);
  const Value again = ops::exponential(b, ops::tanh(b, h));
  b.output(again, "y");
  const Graph fused = fuse_elementwise(graph);
  EXPECT_EQ(count(fused, ops::kFusion), 2);
  expect_equal(fused, graph);
}

RC_GTEST_PROP(ElementwiseFusion, NeverChangesAResult, ()) {
  Graph graph;
  Builder b(graph);
  std::vector<Value> matrices = {b.input(InputKind::data, "x", kMatrix), b.input(InputKind::data, "y", kMatrix)};
  std::vector<Value> rows = {b.input(InputKind::data, "r", {DType::f64, {6}})};
  auto pick = [](const std::vector<Value>& pool) { return pool[*rc::gen::inRange<size_t>(0, pool.size())]; };
  const int size = *rc::gen::inRange(1, 40);
  for (int i = 0; i < size; ++i) {
    switch (*rc::gen::inRange(0, 8)) {
      case 0: matrices.push_back(ops::add(b, pick(matrices), pick(matrices))); break;
      case 1: matrices.push_back(ops::multiply(b, pick(matrices), pick(matrices))); break;
      case 2: matrices.push_back(ops::tanh(b, pick(matrices))); break;
      case 3: matrices.push_back(ops::scale(b, pick(matrices), 0.5)); break;
      case 4: rows.push_back(ops::tanh(b, ops::reduce(b, pick(matrices), {0}))); break;
      case 5: rows.push_back(ops::maximum(b, pick(rows), pick(rows))); break;
      case 6: matrices.push_back(ops::subtract(b, pick(matrices), ops::broadcast_last(b, pick(rows), kMatrix.shape))); break;
      default: matrices.push_back(ops::broadcast_last(b, pick(rows), kMatrix.shape));
    }
  }
  for (int i = 0; i < 3; ++i) b.output(pick(matrices), cat("m", i));
  b.output(pick(rows), "r");
  const Graph fused = fuse_elementwise(graph);
  verify(fused, GraphStage::built);
  const auto a = interpret(fused, values(graph)), expected = interpret(graph, values(graph));
  for (size_t i = 0; i < a.size(); ++i) RC_ASSERT(a[i] == expected[i]);
}

}  // namespace
}  // namespace tessera
