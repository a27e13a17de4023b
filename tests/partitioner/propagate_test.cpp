#include "partitioner/propagate.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ops/attention.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "partitioner/annotate.h"
#include "partitioner/explain.h"
#include "partitioner/split_constants.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct PropagationProgram : MeshProgram {
  using MeshProgram::MeshProgram;

  PropagateResult run() { return propagate(annotate(graph, mesh, {}), origins); }
  static std::string at(const PropagateResult& result, Value value) {
    return cat(result.graph.sharding(value).closed());
  }

  Origins origins;
};

TEST(Propagate, DataParallel) {
  PropagationProgram p("data=4");
  const Value x = p.input("x", {8, 16}, "[{data}, {}]");
  const Value w = p.input("w", {16, 32}, "[{}, {}]", InputKind::parameter);
  const Value h = ops::tanh(p.b, ops::matmul(p.b, x, w));
  const Value sum = ops::reduce(p.b, h, {1});
  const PropagateResult result = p.run();
  EXPECT_EQ(PropagationProgram::at(result, h), "[{data}, {}]");
  EXPECT_EQ(PropagationProgram::at(result, sum), "[{data}]");
  EXPECT_TRUE(result.conflicts.empty());
}

TEST(Propagate, MegatronPerceptron) {
  PropagationProgram p("data=2,model=2");
  const Value x = p.input("x", {8, 16}, "[{data}, {}]");
  const Value w1 = p.input("w1", {16, 32}, "[{}, {model}]", InputKind::parameter);
  const Value w2 = p.input("w2", {32, 16}, "[{model}, {}]", InputKind::parameter);
  const Value h = ops::gelu(p.b, ops::matmul(p.b, x, w1), true);
  const Value y = ops::matmul(p.b, h, w2);
  const PropagateResult result = p.run();
  EXPECT_EQ(PropagationProgram::at(result, h), "[{data}, {model}]");
  EXPECT_EQ(PropagationProgram::at(result, y), "[{data}, {}]");
}

TEST(Propagate, AttentionHeadsAreOneFactorWithKeyHeads) {
  PropagationProgram p("model=4");
  const Value q = p.input("q", {2, 8, 8, 4}, "[{}, {}, {model}, {}]");
  const Value k = p.input("k", {2, 8, 2, 4}, "[{?}, {?}, {?}, {?}]");
  const auto attended = ops::attention(p.b, q, k, k, {});
  const PropagateResult result = p.run();
  EXPECT_EQ(PropagationProgram::at(result, attended.out), "[{}, {}, {model}, {}]");
  EXPECT_EQ(PropagationProgram::at(result, attended.lse), "[{}, {model}, {}]");
  // Two key heads take the major half of the axis; the minor half runs over the query heads of
  // each.
  EXPECT_EQ(PropagationProgram::at(result, k), "[{}, {}, {model:(1)2}, {}]");
}

TEST(Propagate, ReshapeSplitsAxes) {
  PropagationProgram p("x=4");
  const Value a = p.input("a", {16, 3}, "[{x}, {}]");
  const Value b = ops::reshape(p.b, a, {2, 8, 3});
  EXPECT_EQ(PropagationProgram::at(p.run(), b), "[{x:(1)2}, {x:(2)2}, {}]");
}

TEST(Propagate, BackwardFromAnnotatedResult) {
  PropagationProgram p("data=2");
  const Value x = p.input("x", {8, 4}, "[{?}, {?}]");
  const Value y = p.b.annotate(ops::tanh(p.b, x), {}, "y");
  p.graph.info(y).sharding = parse_sharding(p.mesh, "[{data}, {}]");
  EXPECT_EQ(PropagationProgram::at(p.run(), x), "[{data}, {}]");
}

TEST(Propagate, ClosedDimsAndUsedAxesStay) {
  PropagationProgram p("x=2");
  const Value a = p.input("a", {4, 4}, "[{x}, {}]");
  const Value t = ops::transpose(p.b, a, {1, 0});
  const Value s = ops::add(p.b, a, t);  // x on one dim by one operand, on the other by the other
  const PropagateResult result = p.run();
  EXPECT_EQ(PropagationProgram::at(result, a), "[{x}, {}]");
  EXPECT_EQ(PropagationProgram::at(result, t), "[{}, {x}]");
  EXPECT_EQ(size_of(result.graph.sharding(s).used_axes()), 2);
  ASSERT_FALSE(result.conflicts.empty());
  EXPECT_EQ(result.conflicts[0].instruction, s.instruction);
  EXPECT_EQ(result.conflicts[0].bytes, 64);
}

TEST(Propagate, ActivationsWinOverStoredWeights) {
  PropagationProgram p("data=2");
  const Value x = p.input("x", {8, 64}, "[{data}, {}]");
  const Value w =
      p.input("w", {64, 4096}, "[{}, {data}]", InputKind::parameter);  // larger, but only stored so
  const Value y = ops::matmul(p.b, x, w);
  EXPECT_EQ(PropagationProgram::at(p.run(), y), "[{data}, {}]");
}

TEST(Propagate, UserPrioritiesGoFirst) {
  PropagationProgram p("x=2");
  const Value a = p.input("a", {4, 8}, "[{x}p1, {}]");
  const Value b = p.input("b", {4, 8}, "[{}, {x}]");
  const Value sum = ops::add(p.b, a, b);
  EXPECT_EQ(PropagationProgram::at(p.run(), sum), "[{}, {x}]");
}

TEST(Propagate, ExplicitlyReplicatedAxesAreNotUsed) {
  PropagationProgram p("x=2");
  const Value a = p.input("a", {4}, "[{x}]");
  const Value b = ops::tanh(p.b, a);
  p.graph.info(b).sharding = parse_sharding(p.mesh, "[{?}] replicated{x}");
  EXPECT_EQ(PropagationProgram::at(p.run(), b), "[{}]");
}

TEST(Propagate, IndivisibleDimsAreLeftAlone) {
  PropagationProgram p("x=4");
  const Value a = p.input("a", {8}, "[{x}]");
  const Value b = ops::concatenate(p.b, {a, ops::slice(p.b, a, {0}, {1})}, 0);  // size 9
  EXPECT_EQ(PropagationProgram::at(p.run(), b), "[{}]");
}

TEST(Propagate, ExplainTellsTheWholeChain) {
  PropagationProgram p("model=2");
  const Value w = p.b.input(InputKind::parameter, "w", {DType::f32, {4, 8}}, {"embed", "mlp"});
  const Value x = p.input("x", {2, 4}, "[{}, {}]");
  const Value h = ops::matmul(p.b, x, w);
  const Value y = ops::tanh(p.b, h);
  Origins origins;
  const PropagateResult result =
      propagate(annotate(p.graph, p.mesh, config_of("mlp=model", ""), &origins), origins);
  EXPECT_EQ(
      origins.explain(result.graph, y),
      "dim 1 {model} because tanh %3 shares factor 1 with %2 (dot_general);\n"
      "  %2 (dot_general) dim 1 {model} because dot_general %2 shares factor 1 with \"w\" (%0);\n"
      "    \"w\" (%0) dim 1 {model} because parameter rule mlp -> model");
  EXPECT_EQ(origins.explain(result.graph, x),
            "replicated: no rule names its dims, and no neighbour is sharded along them");
}

// What `tessera plan --explain` prints where two rules want one axis: the chain of what was chosen, then
// what the other side wanted.
TEST(Propagate, ExplainTellsOfTheConflictOnTheWay) {
  PropagationProgram p("model=2");
  const Value w = p.b.input(InputKind::parameter, "w", {DType::f32, {8, 8}}, {"embed", "mlp"});
  const Value v = p.b.input(InputKind::parameter, "v", {DType::f32, {8, 8}}, {"mlp", "embed"});
  const Value sum = ops::add(p.b, w, ops::negate(p.b, v));
  const Value y = ops::tanh(p.b, sum);
  const PropagateResult result =
      propagate(annotate(p.graph, p.mesh, config_of("mlp=model", ""), &p.origins), p.origins);
  ASSERT_EQ(result.conflicts.size(), 1u);
  const std::string conflict =
      "conflict at add %3: \"w\" (%0) lies [{}, {model}]; %2 (negate) lies [{model,?}, {?}]; "
      "%3 (add) lies [{?}, {model,?}]\n";
  EXPECT_EQ(explain(result.graph, p.origins, result.conflicts, cat("%", y.instruction)),
            "%4 (tanh) f32[8,8] lies [{}, {model}]\n"
            "dim 1 {model} because tanh %4 shares factor 1 with %3 (add);\n"
            "  %3 (add) dim 1 {model} because add %3 shares factor 1 with \"w\" (%0);\n"
            "    \"w\" (%0) dim 1 {model} because parameter rule mlp -> model\n" +
                conflict);
  // Of a tensor that is part of it.
  EXPECT_EQ(explain(result.graph, p.origins, result.conflicts, "w"),
            "w f32[8,8] lies [{}, {model}]\n"
            "dim 1 {model} because parameter rule mlp -> model\n" +
                conflict);
  // The other side got no further than the op.
  EXPECT_EQ(explain(result.graph, p.origins, result.conflicts, "v"),
            "v f32[8,8] lies [{model}, {}]\n"
            "dim 0 {model} because parameter rule mlp -> model\n");
}

TEST(Propagate, ConstantsAreSplitPerUse) {
  PropagationProgram p("x=2");
  const Value a = p.input("a", {4, 4}, "[{x}, {}]");
  const Value b = p.input("b", {4, 4}, "[{}, {x}]");
  const Value c = ops::constant(p.b, 1.0, {DType::f32, {4, 4}});
  const Value s = ops::add(p.b, a, c), t = ops::add(p.b, b, c);
  p.b.output(s, "s");
  p.b.output(t, "t");
  const Graph split = split_constants(p.graph);
  EXPECT_EQ(split.instructions.size(), p.graph.instructions.size() + 1);
  const PropagateResult result = propagate(annotate(split, p.mesh, {}), p.origins);
  EXPECT_EQ(PropagationProgram::at(result, result.graph.outputs[0].value), "[{x}, {}]");
  EXPECT_EQ(PropagationProgram::at(result, result.graph.outputs[1].value), "[{}, {x}]");
}

TEST(Propagate, WorkIsLinearInTheProgram) {
  auto steps = [](int length) {
    PropagationProgram p("x=2");
    Value value = p.input("a", {8, 8}, "[{x}, {}]");
    const Value w = p.input("w", {8, 8}, "[{}, {}]", InputKind::parameter);
    for (int i = 0; i < length; ++i) value = ops::tanh(p.b, ops::matmul(p.b, value, w));
    return p.run().steps;
  };
  const int64_t small = steps(100), large = steps(1000);
  EXPECT_LT(large, 11 * small);
  EXPECT_LT(large, 2000 * 20);
}

}  // namespace
}  // namespace tessera::testing
