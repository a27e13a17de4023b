// split_complex: no complex arithmetic is left where its parts are enough, and results agree.
#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/complex.h"
#include "core/ops/control.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "core/passes/dead_code.h"
#include "core/passes/split_complex.h"
#include "tests/passes/pass_testing.h"

namespace tessera {
namespace {

using testing::count;

const TensorType kReals{DType::f32, {4, 6}};

int complex_values(const Graph& graph) {
  int found = 0;
  for (const Instruction& instruction : graph.instructions)
    for (const ResultInfo& info : instruction.results) found += info.type.dtype == DType::c64;
  return found;
}

void expect_equal_results(const Graph& a, const Graph& b) {
  const auto inputs = testing::values(a);
  const auto expected = interpret(a, inputs), actual = interpret(b, inputs);
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].type(), actual[i].type());
    for (int64_t e = 0; e < expected[i].elements(); ++e)
      ASSERT_LE(std::abs(expected[i].get_complex(e) - actual[i].get_complex(e)), 2e-6)
          << "output " << i << " element " << e;
  }
}

// Rotary positions as JAX's users write them: pairs turned by exp(i angle), and put side by side.
TEST(SplitComplex, ATurnOfPairsIsRealArithmetic) {
  Graph graph;
  Builder b{graph};
  const Value x = b.input(InputKind::data, "x", kReals), y = b.input(InputKind::data, "y", kReals);
  const Value angle = b.input(InputKind::data, "angle", {DType::f32, {6}});
  const Value i = ops::constant(b, HostTensor::of<std::complex<float>>({}, std::vector<std::complex<float>>{{0, 1}}));
  const Value turn = ops::exponential(
      b, ops::multiply(b, ops::broadcast_scalar(b, i, {6}), ops::convert(b, angle, DType::c64)));
  const Value turned = ops::multiply(b, ops::complex(b, x, y), ops::broadcast_last(b, turn, {4, 6}));
  b.output(ops::real(b, turned), "re");
  b.output(ops::imag(b, ops::negate(b, ops::transpose(b, turned, {1, 0}))), "im");
  const Graph split = eliminate_dead_code(split_complex(graph));
  verify(split, GraphStage::built);
  EXPECT_EQ(complex_values(split), 0) << print_graph(split);
  expect_equal_results(graph, split);
}

TEST(SplitComplex, ProductsQuotientsAndSums) {
  Graph graph;
  Builder b{graph};
  const Value x = b.input(InputKind::data, "x", {DType::c64, {4, 6}});
  const Value y = b.input(InputKind::data, "y", {DType::c64, {6, 5}});
  const Value product = ops::dot_general(b, x, y, {{1}, {0}});
  const Value half = ops::divide(b, product, ops::constant_like(b, product, 2));
  b.output(ops::reduce(b, half, {1}), "sum");
  b.output(ops::reduce(b, half, {1}, ReduceKind::product), "product");
  b.output(ops::divide(b, x, ops::add_scalar(b, x, 3)), "quotient");
  const Graph split = eliminate_dead_code(split_complex(graph));
  verify(split, GraphStage::built);
  EXPECT_EQ(count(split, ops::kDotGeneral), 4);
  EXPECT_EQ(split.type(split.outputs[0].value).dtype, DType::c64);
  expect_equal_results(graph, split);
}

// The carried value of a loop stays whole, and what the body does with it does not.
TEST(SplitComplex, LoopsCarryThemWhole) {
  Graph body;
  {
    Builder b{body};
    const Value z = b.input(InputKind::data, "z", {DType::c64, {4, 6}});
    const Value n = b.input(InputKind::data, "n", {DType::s32, {}});
    b.output(ops::multiply(b, z, ops::add_scalar(b, z, 0.5)), "z");
    b.output(ops::add_scalar(b, n, 1), "n");
  }
  Graph condition;
  {
    Builder b{condition};
    b.input(InputKind::data, "z", {DType::c64, {4, 6}});
    const Value n = b.input(InputKind::data, "n", {DType::s32, {}});
    b.output(ops::compare(b, n, ops::constant_like(b, n, 3), CompareDirection::lt), "more");
  }
  Graph graph;
  Builder b{graph};
  const Value x = b.input(InputKind::data, "x", kReals);
  const Value zero = ops::constant(b, 0, {DType::s32, {}});
  const auto results = ops::while_loop(b, {ops::complex(b, x, x), zero}, std::make_shared<const Graph>(condition),
                                       std::make_shared<const Graph>(body));
  b.output(ops::real(b, results[0]), "re");
  const Graph split = split_complex(graph);
  verify(split, GraphStage::built);
  EXPECT_EQ(count(split, ops::kMakeComplex), 1);
  const Instruction* loop = nullptr;
  for (const Instruction& instruction : split.instructions)
    if (instruction.is(ops::kWhile)) loop = &instruction;
  ASSERT_NE(loop, nullptr);
  const Graph& inside = *loop->attributes.get<GraphRef>(Attr::body);
  EXPECT_EQ(count(inside, ops::kMultiply), 4);
  EXPECT_EQ(inside.type(inside.outputs[0].value).dtype, DType::c64);
  expect_equal_results(graph, split);
}

TEST(SplitComplex, LeavesRealGraphsAlone) {
  Graph graph;
  Builder b{graph};
  const Value x = b.input(InputKind::data, "x", kReals);
  b.output(ops::tanh(b, x), "y");
  EXPECT_EQ(print_graph(split_complex(graph)), print_graph(graph));
}

}  // namespace
}  // namespace tessera
