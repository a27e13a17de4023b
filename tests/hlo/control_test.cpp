// Control flow: loops, branches, calls, barriers; whole and on shards.
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "tests/hlo/run_sharded.h"

namespace tessera::hlo {
namespace {

using namespace testing;

// ---- while ------------------------------------------------------------------------------------------

// while (i < 5) { i += 1; x = x * 2 + w; (nested.0, nested.1) swap }
constexpr std::string_view kLoop = R"(HloModule loop
body {
  t = (s32[], (f32[8,4], f32[8,4]), f32[8,4]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  pair = (f32[8,4], f32[8,4]) get-tuple-element(t), index=1
  x = f32[8,4] get-tuple-element(pair), index=0
  y = f32[8,4] get-tuple-element(pair), index=1
  w = f32[8,4] get-tuple-element(t), index=2
  one = s32[] constant(1)
  next = s32[] add(i, one)
  twice = f32[8,4] add(x, x)
  moved = f32[8,4] add(twice, w)
  swapped = (f32[8,4], f32[8,4]) tuple(y, moved)
  ROOT r = (s32[], (f32[8,4], f32[8,4]), f32[8,4]) tuple(next, swapped, w)
}
condition {
  t = (s32[], (f32[8,4], f32[8,4]), f32[8,4]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  five = s32[] constant(5)
  ROOT r = pred[] compare(i, five), direction=LT
}
ENTRY main {
  zero = s32[] constant(0)
  x = f32[8,4] parameter(0), sharding={devices=[2,1]<=[2]}
  w = f32[8,4] parameter(1)
  pair = (f32[8,4], f32[8,4]) tuple(x, w)
  init = (s32[], (f32[8,4], f32[8,4]), f32[8,4]) tuple(zero, pair, w)
  loop = (s32[], (f32[8,4], f32[8,4]), f32[8,4]) while(init), condition=condition, body=body
  after = (f32[8,4], f32[8,4]) get-tuple-element(loop), index=1
  a = f32[8,4] get-tuple-element(after), index=0
  b = f32[8,4] get-tuple-element(after), index=1
  n = s32[] get-tuple-element(loop), index=0
  ROOT r = (f32[8,4], f32[8,4], s32[]) tuple(a, b, n)
}
)";

TEST(HloControl, LoopsCarryTheLeavesOfTheirTuple) {
  const std::vector<HostTensor> inputs = {counting(DType::f32, {8, 4}), counting(DType::f32, {8, 4})};
  for (int64_t devices : {2, 4, 8}) {
    const auto y = expect_equal_on_shards(kLoop, inputs, devices);
    // Both begin as k; turned three times: 2(2(2k+k)+k)+k = 15k, twice: 7k.
    for (int64_t i = 0; i < 32; ++i) {
      EXPECT_EQ(y[0].get_real(i), 7.0 * static_cast<double>(i));
      EXPECT_EQ(y[1].get_real(i), 15.0 * static_cast<double>(i));
    }
    EXPECT_EQ(y[2].get_int(0), 5);
  }
}

TEST(HloControl, CountedLoopsHaveTheirTripCount) {
  const Graph graph = simplify_imported(import_text(kLoop).graph);
  const Instruction* loop = find_op(graph, "while");
  ASSERT_NE(loop, nullptr);
  EXPECT_EQ(loop->attributes.integer(Attr::trip_count), 5);
}

TEST(HloControl, LoopsOverOneArrayWithoutATuple) {
  const std::string text = module_of(R"(
    x = s32[] parameter(0)
    ROOT y = s32[] while(x), condition=small, body=twice)",
                                     R"(twice {
    v = s32[] parameter(0)
    ROOT w = s32[] add(v, v)
}
small {
    v = s32[] parameter(0)
    c = s32[] constant(100)
    ROOT p = pred[] compare(v, c), direction=LT
})");
  EXPECT_EQ(run_module(text, {tensor<int32_t>({}, {3})})[0].get_int(0), 192);
}

TEST(HloControl, LoopsThatDoNotFit) {
  const std::string computations = R"(keep {
    v = s32[2] parameter(0)
    ROOT w = s32[2] add(v, v)
}
flag {
    v = s32[] parameter(0)
    ROOT p = pred[] compare(v, v), direction=EQ
}
number {
    v = s32[] parameter(0)
    ROOT p = s32[] add(v, v)
}
floats {
    v = s32[] parameter(0)
    ROOT p = f32[] convert(v)
}
nothing {
    v = () parameter(0)
    ROOT p = pred[] constant(0)
}
empty {
    v = () parameter(0)
    ROOT p = () tuple()
})";
  auto refused = [&](std::string_view call, const std::vector<std::string>& parts) {
    expect_error(module_of(cat("\nx = s32[] parameter(0)\n", call), computations), parts);
  };
  refused("ROOT y = s32[] while(x), condition=flag, body=keep", {"(%y)", "body keep", "s32[2]"});
  refused("ROOT y = s32[] while(x), condition=number, body=number",
          {"(%y)", "condition number", "pred[]"});
  refused("ROOT y = s32[] while(x), condition=flag, body=floats", {"(%y)", "body floats", "f32[]"});
  refused("ROOT y = s32[] while(x), body=number", {"(%y)", "condition"});
  refused("t = () tuple()\ny = () while(t), condition=nothing, body=empty\nROOT r = s32[] add(x, x)",
          {"(%y)", "carries nothing"});
}

// ---- conditional ----------------------------------------------------------------------------------------

constexpr std::string_view kBranches = R"(plus {
  t = (f32[8], f32[]) parameter(0)
  x = f32[8] get-tuple-element(t), index=0
  s = f32[] get-tuple-element(t), index=1
  b = f32[8] broadcast(s), dimensions={}
  ROOT r = f32[8] add(x, b)
}
minus {
  x = f32[8] parameter(0)
  ROOT r = f32[8] negate(x)
}
zero {
  t = () parameter(0)
  c = f32[] constant(0)
  ROOT r = f32[8] broadcast(c), dimensions={}
})";

std::string switch_module(std::string_view index) {
  return module_of(cat(R"(
    i = )", index, R"( parameter(0)
    x = f32[8] parameter(1), sharding={devices=[2]<=[2]}
    s = f32[] constant(10)
    t = (f32[8], f32[]) tuple(x, s)
    e = () tuple()
    ROOT y = f32[8] conditional(i, t, x, e), branch_computations={plus, minus, zero})"),
                   kBranches);
}

TEST(HloControl, BranchesByIndexEachWithItsOwnOperand) {
  const HostTensor x = counting(DType::f32, {8});
  for (int64_t devices : {2, 4})
    for (int32_t index : {-1, 0, 1, 2, 3}) {
      const auto y = expect_equal_on_shards(switch_module("s32[]"), {tensor<int32_t>({}, {index}), x},
                                            devices);
      for (int64_t k = 0; k < 8; ++k)
        EXPECT_EQ(y[0].get_real(k), index == 0   ? static_cast<double>(k + 10)
                                    : index == 1 ? static_cast<double>(-k)
                                                 : 0)
            << "branch " << index;
    }
}

TEST(HloControl, BranchesByPredicate) {
  for (const char* branches : {"true_computation=plus, false_computation=minus",
                               "branch_computations={plus, minus}"}) {
    const std::string text = module_of(cat(R"(
    p = pred[] parameter(0)
    x = f32[8] parameter(1), sharding={devices=[4]<=[4]}
    s = f32[] constant(10)
    t = (f32[8], f32[]) tuple(x, s)
    ROOT y = f32[8] conditional(p, t, x), )", branches), kBranches);
    HostTensor yes({DType::pred, {}}), no({DType::pred, {}});
    yes.set_int(0, 1);
    const HostTensor x = counting(DType::f32, {8});
    EXPECT_EQ(expect_equal_on_shards(text, {yes, x}, 4)[0].get_real(3), 13);
    EXPECT_EQ(expect_equal_on_shards(text, {no, x}, 4)[0].get_real(3), -3);
  }
}

TEST(HloControl, BranchesThatDoNotFit) {
  auto refused = [&](std::string_view call, const std::vector<std::string>& parts) {
    expect_error(module_of(cat(R"(
    i = s32[] parameter(0)
    p = pred[] parameter(1)
    f = f32[] parameter(2)
    x = f32[8] parameter(3)
    e = () tuple()
    )", call), kBranches), parts);
  };
  refused("ROOT y = f32[8] conditional(i, x, e), branch_computations={plus, zero}",
          {"(%y)", "branch 0", "plus"});
  refused("ROOT y = f32[8] conditional(i, x), branch_computations={minus, zero}",
          {"(%y)", "2 branches need 3 operands"});
  refused("ROOT y = f32[8] conditional(f, x, e), branch_computations={minus, zero}",
          {"(%y)", "pred[] or s32[]"});
  refused("ROOT y = f32[8] conditional(i, x, e), true_computation=minus, false_computation=zero",
          {"(%y)", "branch_computations"});
  refused("ROOT y = f32[8] conditional(p, x, e, x), branch_computations={minus, zero, minus}",
          {"(%y)", "between 2 branches"});
}

TEST(HloControl, AConstantIndexLeavesItsBranch) {
  const std::string text = module_of(R"(
    i = s32[] constant(1)
    x = f32[8] parameter(0)
    e = () tuple()
    ROOT y = f32[8] conditional(i, e, x), branch_computations={zero, minus})",
                                     kBranches);
  const Graph graph = simplify_imported(import_text(text).graph);
  EXPECT_EQ(count_of(graph, "case"), 0);
  EXPECT_EQ(interpret(graph, std::vector{counting(DType::f32, {8})})[0].get_real(5), -5);
}

// ---- call, opt-barrier --------------------------------------------------------------------------------------

TEST(HloControl, CallsShareTheirCalleeAndAreInlined) {
  const std::string text = module_of(R"(
    x = f32[8] parameter(0), sharding={devices=[2]<=[2]}
    a = f32[8] call(x), to_apply=minus
    c = f32[8] call(), to_apply=ones, frontend_attributes={inlineable="false"}
    b = f32[8] call(a), to_apply=minus
    ROOT y = f32[8] add(b, c))",
                                     cat(kBranches, R"(
ones {
  c = f32[] constant(1)
  ROOT r = f32[8] broadcast(c), dimensions={}
})"));
  const Imported imported = import_text(text);
  EXPECT_EQ(count_of(imported.graph, "call"), 3);
  EXPECT_EQ(count_of(simplify_imported(imported.graph), "call"), 0);
  EXPECT_EQ(expect_equal_on_shards(text, {counting(DType::f32, {8})}, 2)[0].get_real(6), 7);
  expect_error(module_of("x = f32[4] parameter(0)\nROOT y = f32[8] call(x), to_apply=minus", kBranches),
               {"(%y)", "minus takes (f32[8])", "f32[4]"});
}

TEST(HloControl, Barriers) {
  const std::string text = module_of(R"(
    x = f32[8] parameter(0), sharding={devices=[2]<=[2]}
    n = f32[8] negate(x)
    t = (f32[8], f32[8]) tuple(x, n)
    o = (f32[8], f32[8]) opt-barrier(t)
    a = f32[8] get-tuple-element(o), index=0
    b = f32[8] get-tuple-element(o), index=1
    e = () tuple()
    f = () opt-barrier(e)
    ROOT y = f32[8] subtract(a, b))");
  EXPECT_EQ(count_of(simplify_imported(import_text(text).graph), "optimization_barrier"), 1);
  EXPECT_EQ(expect_equal_on_shards(text, {counting(DType::f32, {8})}, 2)[0].get_real(3), 6);
}

// A sharding of a region's values holds inside, and calls of it keep it.
TEST(HloControl, ConstraintsInsideLoopsAndCallees) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[2,2]<=[4]}
    i = s32[] constant(0)
    t = (s32[], f32[8,4]) tuple(i, x)
    l = (s32[], f32[8,4]) while(t), condition=condition, body=body
    ROOT y = f32[8,4] get-tuple-element(l), index=1)",
                                     R"(twice {
  x = f32[8,4] parameter(0)
  d = f32[8,4] add(x, x)
  ROOT c = f32[8,4] custom-call(d), custom_call_target="Sharding", sharding={devices=[4,1]<=[4]}
}
body {
  t = (s32[], f32[8,4]) parameter(0), sharding={{replicated}, {devices=[2,2]<=[4]}}
  i = s32[] get-tuple-element(t), index=0
  x = f32[8,4] get-tuple-element(t), index=1
  y = f32[8,4] call(x), to_apply=twice
  one = s32[] constant(1)
  n = s32[] add(i, one)
  ROOT r = (s32[], f32[8,4]) tuple(n, y)
}
condition {
  t = (s32[], f32[8,4]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  c = s32[] constant(3)
  ROOT p = pred[] compare(i, c), direction=LT
})");
  for (int64_t devices : {4, 8}) {
    const auto y = expect_equal_on_shards(text, {counting(DType::f32, {8, 4})}, devices);
    EXPECT_EQ(y[0].get_real(31), 248);
  }
}

TEST(HloControl, CallsThatDoubleManyTimes) {
  std::string computations = "f0 {\n  x = f32[] parameter(0)\n  ROOT r = f32[] negate(x)\n}\n";
  for (int i = 1; i < 60; ++i)
    computations += cat("f", i, " {\n  x = f32[] parameter(0)\n  a = f32[] call(x), to_apply=f", i - 1,
                        "\n  ROOT r = f32[] call(a), to_apply=f", i - 1, "\n}\n");
  expect_error(module_of("x = f32[] parameter(0)\nROOT y = f32[] call(x), to_apply=f59", computations),
               {"more than 1000000 instructions"});
}

TEST(HloControl, WhatThereIsNotIsListed) {
  EXPECT_EQ(unsupported_of(module_of(R"(
    x = f32[4] parameter(0)
    t = token[] after-all()
    c = (f32[4], u32[]) copy-start(x)
    ROOT z = f32[4] negate(x))")),
            (std::vector<std::string>{"element type token", "opcode after-all", "opcode copy-start"}));
}

}  // namespace
}  // namespace tessera::hlo
