// The walk: tuples as leaves, order of parameters, shapes that contradict, all that is unsupported.
#include <chrono>

#include "core/ops/control.h"
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

TEST(ImportWalk, ParametersStandInTheOrderOfTheirNumbers) {
  const HostTensor y = run_entry(R"(
    b = f32[2] parameter(1)
    a = f32[2] parameter(0)
    ROOT d = f32[2] subtract(a, b))",
                                 {floats({5, 7}), floats({1, 2})});
  EXPECT_EQ(reals(y), (Reals{4, 5}));
}

TEST(ImportWalk, TuplesAreTheirLeaves) {
  const std::string text = module_of(R"(
    p = (f32[2], (s32[], f32[3])) parameter(0)
    q = f32[2] parameter(1)
    inner = (s32[], f32[3]) get-tuple-element(p), index=1
    x = f32[3] get-tuple-element(inner), index=1
    n = s32[] get-tuple-element(inner), index=0
    w = f32[2] get-tuple-element(p), index=0
    sum = f32[2] add(w, q)
    pair = (f32[3], s32[]) tuple(x, n)
    empty = () tuple()
    ROOT all = ((f32[3], s32[]), (), f32[2]) tuple(pair, empty, sum))");
  const Imported imported = import_text(text);
  ASSERT_EQ(imported.inputs.size(), 4u);
  EXPECT_EQ(imported.inputs[0].name, "p.0");
  EXPECT_EQ(imported.inputs[2].name, "p.1.1");
  EXPECT_EQ(imported.inputs[2].path, (Ints{1, 1}));
  EXPECT_EQ(imported.inputs[2].parameter, 0);
  EXPECT_EQ(imported.inputs[3].name, "q");
  EXPECT_TRUE(imported.inputs[3].path.empty());
  EXPECT_EQ(imported.inputs[3].parameter, 1);
  EXPECT_EQ(imported.inputs[1].type, (TensorType{DType::s32, {}}));
  ASSERT_EQ(imported.outputs.size(), 3u);
  EXPECT_EQ(imported.outputs[0].name, "out.0.0");
  EXPECT_EQ(imported.outputs[1].name, "out.0.1");
  EXPECT_EQ(imported.outputs[2].name, "out.2");
  const auto y = interpret(imported.graph, std::vector{floats({1, 2}), tensor<int32_t>({}, {7}),
                                                       floats({3, 4, 5}), floats({10, 20})});
  EXPECT_EQ(reals(y[0]), (Reals{3, 4, 5}));
  EXPECT_EQ(reals(y[1]), (Reals{7}));
  EXPECT_EQ(reals(y[2]), (Reals{11, 22}));
}

TEST(ImportWalk, TheEntrysInstructionsHaveTheirValues) {
  const Imported imported = import_text(module_of(R"(
    a = f32[2] parameter(0)
    b = f32[2] negate(a)
    ROOT t = (f32[2], f32[2]) tuple(b, a))"));
  ASSERT_EQ(imported.values.size(), 3u);
  EXPECT_EQ(imported.values[2].first, "t");
  EXPECT_EQ(imported.values[2].second,
            (std::vector{imported.values[1].second[0], imported.values[0].second[0]}));
  EXPECT_EQ(imported.outputs[0].name, "out.0");
}

TEST(ImportWalk, ComputationsBecomeOneRegionEach) {
  const std::string text = module_of(R"(
    x = f32[4] parameter(0)
    a = (f32[4], f32[4]) call(x, x), to_apply=twice
    a0 = f32[4] get-tuple-element(a), index=0
    b = (f32[4], f32[4]) call(a0, x), to_apply=twice
    ROOT b1 = f32[4] get-tuple-element(b), index=1)",
                                     R"(
  twice {
    q = f32[4] parameter(1)
    p = f32[4] parameter(0)
    s = f32[4] add(p, q)
    d = f32[4] multiply(s, q)
    ROOT r = (f32[4], f32[4]) tuple(s, d)
  })");
  const Imported imported = import_text(text);
  std::vector<GraphRef> callees;
  for (const Instruction& instruction : imported.graph.instructions)
    if (instruction.is(ops::kCall))
      callees.push_back(instruction.attributes.get<GraphRef>(Attr::callee));
  ASSERT_EQ(callees.size(), 2u);
  EXPECT_EQ(callees[0], callees[1]);
  EXPECT_EQ(reals(run_module(text, {floats({1, 2, 3, 4})})[0]), (Reals{3, 12, 27, 48}));
}

TEST(ImportWalk, ScopesAreTheUsersNames) {
  const Imported imported = import_text(module_of(R"(
    x = f32[2] parameter(0)
    a = f32[2] negate(x), metadata={op_name="jit(step)/jit(main)/block.0/transpose(jvp(mlp/up))/neg" source_file="a.py" source_line=3}
    b = f32[2] negate(a), metadata={op_name="jit(step)/neg"}
    ROOT c = f32[2] negate(b))"));
  EXPECT_EQ(imported.graph.instructions[1].scope, "block.0/transpose(jvp(mlp/up))");
  EXPECT_EQ(imported.graph.instructions[2].scope, "");
  EXPECT_EQ(imported.graph.instructions[3].scope, "");
}

// ---- Contradictions -----------------------------------------------------------------------------

TEST(ImportWalk, ResultsAreCheckedAgainstTheText) {
  const std::string dot = module_of(R"(
    a = f32[8,4] parameter(0)
    b = f32[4,32] parameter(1)
    ROOT d = f32[8,16] dot(a, b), lhs_contracting_dims={1}, rhs_contracting_dims={0})");
  expect_error(dot, {"line 6", "d)", "the text says f32[8,16]", "dot of f32[8,4], f32[4,32]",
                     "gives f32[8,32]"});
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    ROOT d = f16[8] negate(a))"),
               {"the text says f16[8]", "gives f32[8]"});
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    ROOT d = (f32[8], f32[4]) tuple(a, a))"),
               {"gives (f32[8], f32[8])"});
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    ROOT d = (f32[8]) negate(a))"),
               {"the text says (f32[8]), but negate of f32[8] gives f32[8]"});
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    b = ((f32[8]), f32[8]) tuple(a, a)
    ROOT d = f32[8] get-tuple-element(b), index=1)"),
               {"line 5", "gives (f32[8], f32[8])"});
  expect_error(module_of(R"(
    a = ((f32[8])) parameter(0)
    ROOT d = f32[8] get-tuple-element(a), index=0)"),
               {"line 5", "gives (f32[8])"});
}

TEST(ImportWalk, ErrorsOfOpsNameTheLine) {
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    b = f32[4] parameter(1)
    ROOT d = f32[8] add(a, b))"),
               {"line 6", "(%d)", "add: operands must have one type, got f32[8] and f32[4]"});
}

TEST(ImportWalk, MissingAttributesAndOperandsAreNamed) {
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    ROOT d = pred[8] compare(a, a))"),
               {"line 5", "compare needs the attribute direction"});
  expect_error(module_of(R"(
    a = (f32[8], f32[8]) parameter(0)
    ROOT d = f32[8] negate(a))"),
               {"operand 0 of negate, a, is a tuple: (f32[8], f32[8])"});
  expect_error(module_of(R"(
    a = (f32[8], f32[8]) parameter(0)
    ROOT d = f32[8] get-tuple-element(a), index=2)"),
               {"index=2"});
  expect_error(module_of(R"(
    a = f32[8] parameter(0)
    ROOT d = f32[8] get-tuple-element(a), index=0)"),
               {"index=0"});
}

// ---- Unsupported --------------------------------------------------------------------------------

TEST(ImportWalk, EverythingUnsupportedIsListedOnce) {
  const std::string text = module_of(R"(
    x = f32[4] parameter(0)
    z = c128[4] parameter(1)
    f = c64[3] fft(x), fft_type=RFFT, fft_length={4}
    w = f32[4] while(x), condition=turn, body=step
    r = f32[4] custom-call(w), custom_call_target="lapack_spotrf"
    k = token[] after-all()
    ROOT d = f32[4] add(r, x))",
                                     R"(
  unused {
    p = f32[] parameter(0)
    ROOT r = f32[] quux(p)
  }
  turn {
    p = f32[4] parameter(0)
    ROOT r = pred[] constant(true)
  }
  step {
    p = f32[4] parameter(0)
    c = f32[4] custom-call(p), custom_call_target="lapack_spotrf"
    n = s4[4] convert(c)
    e = f32[4] stochastic-convert(c, c)
    ROOT r = f32[4] negate(e)
  })");
  EXPECT_EQ(unsupported_of(text),
            (std::vector<std::string>{"custom call lapack_spotrf", "element type c128",
                                      "element type s4", "element type token", "opcode after-all",
                                      "opcode fft", "opcode stochastic-convert"}));
  expect_error(text, {"the module uses what Tessera does not have: custom call lapack_spotrf, "});
}

TEST(ImportWalk, HandlersAddToTheList) {
  const std::string text = module_of(R"(
    z = c64[4] parameter(0)
    i = pred[4] iota(), iota_dimension=0
    b = u64[4] bitcast-convert(z)
    e = c64[4] erf(z)
    ROOT a = c64[4] atan2(e, z))");
  EXPECT_EQ(unsupported_of(text),
            (std::vector<std::string>{"opcode atan2 of c64", "opcode bitcast-convert of c64",
                                      "opcode erf of c64", "opcode iota of pred"}));
}

TEST(ImportWalk, ErrorsAmongUnsupportedThingsAreNotReported) {
  EXPECT_EQ(unsupported_of(module_of(R"(
    x = f32[4] parameter(0)
    f = c64[3] fft(x), fft_type=RFFT, fft_length={4}
    ROOT d = f32[5] negate(x))")),
            (std::vector<std::string>{"opcode fft"}));
}

TEST(ImportWalk, AnUnusedComputationDoesNoHarm) {
  EXPECT_EQ(import_error(module_of(R"(
    ROOT x = f32[4] parameter(0))",
                                   R"(
  unused {
    p = f32[] parameter(0)
    ROOT r = f32[] quux(p)
  })")),
            "");
}

TEST(ImportWalk, DeepCallsAreRefused) {
  const auto nested = [](int depth) {
    std::string computations = "c0 {\n p = f32[] parameter(0)\n ROOT r = f32[] negate(p)\n}\n";
    for (int i = 1; i < depth; ++i)
      computations +=
          cat("c", i, " {\n p = f32[] parameter(0)\n ROOT r = f32[] call(p), to_apply=c", i - 1,
              "\n}\n");
    return module_of(cat("x = f32[] parameter(0)\nROOT r = f32[] call(x), to_apply=c", depth - 1),
                     computations);
  };
  EXPECT_EQ(import_error(nested(100)), "");
  expect_error(nested(300), {"deeper than"});
}

TEST(ImportWalk, FourteenThousandInstructionsTakeAFractionOfASecond) {
  std::string body = "x0 = f32[64,32]{1,0} parameter(0)\nzero = f32[] constant(0)\n";
  constexpr int kRepeats = 14000 / 7;
  for (int i = 0; i < kRepeats; ++i)
    body +=
        cat("t", i, " = f32[64,32]{1,0} tanh(x", i, ")\n", "c", i, " = f32[] constant(", i, ".5)\n",
            "b", i, " = f32[64,32]{1,0} broadcast(c", i, "), dimensions={}\n", "a", i,
            " = f32[64,32]{1,0} add(t", i, ", b", i, ")\n", "r", i, " = f32[64]{0} reduce(a", i,
            ", zero), dimensions={1}, to_apply=f\n", "s", i, " = f32[64,32]{1,0} broadcast(r", i,
            "), dimensions={0}\n", "x", i + 1, " = f32[64,32]{1,0} subtract(s", i, ", t", i, ")\n");
  body += cat("ROOT y = f32[64,32]{1,0} negate(x", kRepeats, ")");
  const HloModule module = parse(module_of(body, R"(
  f {
    x = f32[] parameter(0)
    y = f32[] parameter(1)
    ROOT r = f32[] add(x, y)
  })"));
  const auto start = std::chrono::steady_clock::now();
  const Imported imported = import(module);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(imported.values.size(), 14003u);
  EXPECT_LT(spent.count(), 5.0) << "0.1 s on a quiet machine";
}

}  // namespace
}  // namespace tessera::hlo
