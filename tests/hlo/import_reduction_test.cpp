// reduce, reduce-window, select-and-scatter, map: what is recognised, and what stays a region.
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

TEST(ImportReduction, KnownCombinersInBothOrders) {
  struct Case {
    const char* opcode;
    const char* init;
    Reals wanted;
  };
  const HostTensor x = tensor<float>({2, 3}, {1, 5, 2, -4, 0, 3});
  for (const Case& each : std::vector<Case>{{"add", "0", {8, -1}},
                                            {"multiply", "1", {10, 0}},
                                            {"maximum", "-inf", {5, 3}},
                                            {"minimum", "inf", {1, -4}}})
    for (bool is_swapped : {false, true}) {
      const std::string text =
          module_of(cat("x = f32[2,3] parameter(0)\ni = f32[] constant(", each.init,
                        ")\nROOT y = f32[2] reduce(x, i), dimensions={1}, to_apply=f"),
                    scalar_region("f", each.opcode, "f32", is_swapped));
      EXPECT_EQ(reals(run_module(text, {x})[0]), each.wanted) << each.opcode;
      const Imported imported = import_text(text);
      const Instruction* reduce = find_op(imported.graph, "reduce");
      EXPECT_TRUE(reduce->attributes.has(Attr::reduce_kind));
      EXPECT_EQ(reduce->operands.size(), 1u) << "the identity is understood";
    }
}

TEST(ImportReduction, OtherStartsStay) {
  const std::string text = module_of(
      "x = s32[3] parameter(0)\ni = s32[] constant(100)\n"
      "ROOT y = s32[] reduce(x, i), dimensions={0}, to_apply=f",
      scalar_region("f", "add", "s32"));
  EXPECT_EQ(reals(run_module(text, {integers({1, 2, 3})})[0]), (Reals{106}));
  EXPECT_EQ(find_op(import_text(text).graph, "reduce")->operands.size(), 2u);
}

TEST(ImportReduction, PredsAndBits) {
  EXPECT_EQ(reals(run_entry("x = pred[2,2] parameter(0)\ni = pred[] constant(false)\n"
                            "ROOT y = pred[2] reduce(x, i), dimensions={0}, to_apply=f",
                            {tensor<bool>({2, 2}, {false, true, false, false})},
                            scalar_region("f", "or", "pred"))),
            (Reals{0, 1}));
  EXPECT_EQ(reals(run_entry("x = pred[2] parameter(0)\ni = pred[] constant(true)\n"
                            "ROOT y = pred[] reduce(x, i), dimensions={0}, to_apply=f",
                            {tensor<bool>({2}, {true, false})}, scalar_region("f", "and", "pred"))),
            (Reals{0}));
  EXPECT_EQ(reals(run_entry("x = s32[3] parameter(0)\ni = s32[] constant(0)\n"
                            "ROOT y = s32[] reduce(x, i), dimensions={0}, to_apply=f",
                            {integers({6, 3, 8})}, scalar_region("f", "xor", "s32"))),
            (Reals{13}));
}

TEST(ImportReduction, SeveralOperandsAtOnce) {
  const std::vector<HostTensor> y =
      run_module(module_of(R"(
    x = f32[2,2] parameter(0)
    n = s32[2,2] parameter(1)
    zero = f32[] constant(0)
    one = s32[] constant(1)
    ROOT r = (f32[2], s32[2]) reduce(x, n, zero, one), dimensions={1}, to_apply=f)",
                           pair_region("f", "add", "multiply")),
                 {tensor<float>({2, 2}, {1, 2, 3, 4}), tensor<int32_t>({2, 2}, {5, 6, 7, 8})});
  EXPECT_EQ(reals(y[0]), (Reals{3, 7}));
  EXPECT_EQ(reals(y[1]), (Reals{30, 56}));
}

// As JAX 0.10 emits argmax and argmin.
std::string argmax_text(std::string_view direction) {
  return module_of(R"(
    x = f32[2,4] parameter(0)
    i = s32[4] iota(), iota_dimension=0
    is = s32[2,4] broadcast(i), dimensions={1}
    worst = f32[] constant()" +
                       std::string(direction == "GT" ? "-inf" : "inf") + R"()
    zero = s32[] constant(0)
    ROOT r = (f32[2], s32[2]) reduce(x, is, worst, zero), dimensions={1}, to_apply=region_0.1)",
                   cat(R"(
  region_0.1 {
    reduce.4 = f32[] parameter(0)
    reduce.6 = f32[] parameter(2)
    gt.1 = pred[] compare(reduce.4, reduce.6), direction=)",
                       direction, R"(
    ne.1 = pred[] compare(reduce.4, reduce.4), direction=NE
    or.2 = pred[] or(gt.1, ne.1)
    select_n.2 = f32[] select(or.2, reduce.4, reduce.6)
    eq.1 = pred[] compare(reduce.4, reduce.6), direction=EQ
    reduce.5 = s32[] parameter(1)
    reduce.7 = s32[] parameter(3)
    lt.1 = pred[] compare(reduce.5, reduce.7), direction=LT
    and.1 = pred[] and(eq.1, lt.1)
    or.3 = pred[] or(or.2, and.1)
    select_n.3 = s32[] select(or.3, reduce.5, reduce.7)
    ROOT tuple.1 = (f32[], s32[]) tuple(select_n.2, select_n.3)
  })"));
}

TEST(ImportReduction, ArgmaxBecomesTwoKnownReductions) {
  const HostTensor x = tensor<float>({2, 4}, {1, 7, 7, 2, 3, NAN, 9, NAN});
  for (const auto& [direction, value, index] :
       {std::tuple{"GT", 7.0, 1.0}, std::tuple{"LT", 1.0, 0.0}}) {
    const std::vector<HostTensor> y = run_module(argmax_text(direction), {x});
    EXPECT_EQ(y[0].get_real(0), value);
    EXPECT_TRUE(std::isnan(y[0].get_real(1)));
    EXPECT_EQ(reals(y[1]), (Reals{index, 1})) << direction;
    const Imported imported = import_text(argmax_text(direction));
    for (const Instruction& instruction : imported.graph.instructions)
      EXPECT_FALSE(instruction.attributes.has(Attr::combiner));
  }
  const HostTensor lowest = HostTensor::filled({DType::f32, {2, 4}}, -INFINITY);
  EXPECT_EQ(reals(run_module(argmax_text("GT"), {lowest})[1]), (Reals{0, 0}));
}

TEST(ImportReduction, Errors) {
  const auto module = [](std::string_view line, std::string_view region) {
    return module_of(cat("x = f32[4] parameter(0)\ni = f32[] constant(0)\nROOT y = f32[] ", line),
                     region);
  };
  const std::string add = scalar_region("f", "add");
  expect_error(module("reduce(x, i), dimensions={1}, to_apply=f", add),
               {"dimensions={1} of a rank of 1"});
  expect_error(module("reduce(x, i), dimensions={0}", add),
               {"reduce needs the attribute to_apply"});
  expect_error(
      module("reduce(x, i), dimensions={0}, to_apply=f", scalar_region("f", "multiply", "s32")),
      {"reduce: the region"});
  expect_error(module("reduce(x, i, i), dimensions={0}, to_apply=f", add),
               {"reduce takes", "not 3"});
}

// ---- Windows ------------------------------------------------------------------------------------

std::string window_text(std::string_view type, std::string_view window, std::string_view opcode,
                        std::string_view init) {
  return module_of(cat("x = f32[2,4] parameter(0)\ni = f32[] constant(", init, ")\nROOT y = ", type,
                       " reduce-window(x, i), window={", window, "}, to_apply=f"),
                   scalar_region("f", opcode));
}

TEST(ImportReduction, PoolingStartsFromTheIdentity) {
  const HostTensor x = tensor<float>({2, 4}, {3, 1, 2, 5, 0, -1, 4, 4});
  const std::string pool = window_text("f32[2,2]", "size=1x2 stride=1x2", "maximum", "-inf");
  EXPECT_EQ(reals(run_module(pool, {x})[0]), (Reals{3, 5, 0, 4}));
  EXPECT_EQ(find_op(import_text(pool).graph, "reduce_window")->operands.size(), 1u);
  EXPECT_EQ(reals(run_module(window_text("f32[2,4]", "size=1x3 pad=0_0x1_1", "add", "10"), {x})[0]),
            (Reals{14, 16, 18, 17, 9, 13, 17, 18}))
      << "padding is left out";
}

TEST(ImportReduction, WindowsAsLargeAsADimAreScans) {
  const HostTensor x = tensor<float>({2, 4}, {3, 1, 2, 5, 0, -1, 4, 4});
  const auto scan = [&](std::string_view window, std::string_view opcode, std::string_view init) {
    const std::string text = window_text("f32[2,4]", window, opcode, init);
    EXPECT_EQ(count_of(import_text(text).graph, "scan"), 1) << window;
    return reals(run_module(text, {x})[0]);
  };
  EXPECT_EQ(scan("size=1x4 pad=0_0x3_0", "add", "0"), (Reals{3, 4, 6, 11, 0, -1, 3, 7}));
  EXPECT_EQ(scan("size=2x1 pad=1_0x0_0", "multiply", "1"), (Reals{3, 1, 2, 5, 0, -1, 8, 20}));
  EXPECT_EQ(scan("size=1x4 pad=0_0x0_3", "maximum", "-inf"), (Reals{5, 5, 5, 5, 4, 4, 4, 4}));
  EXPECT_EQ(scan("size=1x4 pad=0_0x3_0", "minimum", "inf"), (Reals{3, 1, 1, 1, 0, -1, -1, -1}));
  EXPECT_EQ(scan("size=1x4 pad=0_0x3_0", "add", "1"), (Reals{4, 5, 7, 12, 1, 0, 4, 8}));
  // Another padding is no scan.
  EXPECT_EQ(count_of(import_text(window_text("f32[2,4]", "size=1x4 pad=0_0x2_1", "add", "0")).graph,
                     "scan"),
            0);
}

TEST(ImportReduction, LogSumExpScans) {
  const std::string text = module_of(R"(
    x = f32[2,4] parameter(0)
    i = f32[] constant(-inf)
    ROOT y = f32[2,4] reduce-window(x, i), window={size=1x4 pad=0_0x3_0}, to_apply=region_3.9)",
                                     R"(
  region_3.9 {
    reduce_window.8 = f32[] parameter(0)
    reduce_window.9 = f32[] parameter(1)
    sub.1 = f32[] subtract(reduce_window.8, reduce_window.9)
    ne.1 = pred[] compare(sub.1, sub.1), direction=NE
    add.2 = f32[] add(reduce_window.8, reduce_window.9)
    max.1 = f32[] maximum(reduce_window.8, reduce_window.9)
    abs.1 = f32[] abs(sub.1)
    neg.1 = f32[] negate(abs.1)
    exp.1 = f32[] exponential(neg.1)
    log1p.1 = f32[] log-plus-one(exp.1)
    add.3 = f32[] add(max.1, log1p.1)
    ROOT select_n.1 = f32[] select(ne.1, add.2, add.3)
  })");
  EXPECT_EQ(count_of(import_text(text).graph, "log_sum_exp_scan"), 1);
  expect_near(run_module(text, {tensor<float>({2, 4}, {3, 1, 2, 5, 0, -1, 4, 4})})[0],
              {3.0, 3.1269280910491943, 3.4076061248779297, 5.185182571411133, 0.0,
               0.3132616877555847, 4.024744987487793, 4.705595970153809});
}

TEST(ImportReduction, SelectAndScatter) {
  const auto text = [](std::string_view direction, std::string_view init) {
    return module_of(cat(R"(
    x = f32[2,4] parameter(0)
    s = f32[2,3] parameter(1)
    i = f32[] constant()",
                         init, R"()
    ROOT y = f32[2,4] select-and-scatter(x, s, i), window={size=1x2}, select=g, scatter=f)"),
                     cat(scalar_region("f", "add"), "g {\n x = f32[] parameter(0)\n",
                         " y = f32[] parameter(1)\n ROOT r = pred[] compare(x, y), direction=",
                         direction, "\n}\n"));
  };
  const std::vector<HostTensor> inputs = {tensor<float>({2, 4}, {3, 1, 2, 5, 0, -1, 4, 4}),
                                          tensor<float>({2, 3}, {1, 2, 3, 4, 5, 6})};
  EXPECT_EQ(reals(run_module(text("GE", "0"), inputs)[0]), (Reals{1, 0, 2, 3, 4, 0, 11, 0}));
  EXPECT_EQ(find_op(import_text(text("GE", "0")).graph, "select_and_scatter")->operands.size(), 2u);
  // The last of equals, and another start: regions.
  EXPECT_EQ(reals(run_module(text("GT", "0"), inputs)[0]), (Reals{1, 0, 2, 3, 4, 0, 5, 6}));
  EXPECT_EQ(reals(run_module(text("GE", "1"), inputs)[0]), (Reals{2, 1, 3, 4, 5, 1, 12, 1}));
  EXPECT_EQ(reals(run_module(text("LE", "0"), inputs)[0]), (Reals{0, 3, 3, 0, 0, 9, 6, 0}));
}

TEST(ImportReduction, MapIsInlined) {
  EXPECT_EQ(reals(run_entry("x = f32[3] parameter(0)\n"
                            "ROOT y = f32[3] map(x), dimensions={0}, to_apply=f",
                            {floats({1, 2, 3})}, R"(
  g {
    p = f32[] parameter(0)
    ROOT r = f32[] negate(p)
  }
  f {
    p = f32[] parameter(0)
    c = f32[] constant(10)
    m = f32[] multiply(p, c)
    ROOT r = f32[] call(m), to_apply=g
  })")),
            (Reals{-10, -20, -30}));
  expect_error(module_of("x = s32[3] parameter(0)\n"
                         "ROOT y = s32[3] map(x), dimensions={0}, to_apply=f",
                         scalar_region("f", "add")),
               {"to_apply takes 2 scalars, but there are 1 operands"});
}

}  // namespace
}  // namespace tessera::hlo
