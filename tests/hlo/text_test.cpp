// Modules, computations, shapes and names in HLO text.
#include <gtest/gtest.h>

#include <chrono>

#include "core/base/strings.h"
#include "tests/hlo/hlo_testing.h"

namespace tessera::hlo {
namespace {

using ::tessera::testing::entry_of;
using ::tessera::testing::round_trip;

const HloInstruction& root_of(const HloModule& module) {
  const HloComputation& entry = module.entry_computation();
  return entry.instructions[static_cast<size_t>(entry.root)];
}

TEST(HloText, CanonicalTextPrintsAsItStands) {
  const std::string text =
      "HloModule jit_step, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {0}, must-alias) "
      "}, "
      "buffer_donor={ (0, {}), (1, {1}) }, is_scheduled=true, "
      "entry_computation_layout={(f32[4]{0}, (f32[], s32[]))->(f32[4]{0}, f32[])}, "
      "replica_count=1, num_partitions=4, "
      "frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<[\"data\"=2, \"model\"=2]>}}\n"
      "\n"
      "add {\n"
      "  a = f32[] parameter(0)\n"
      "  b = f32[] parameter(1)\n"
      "  ROOT sum = f32[] add(a, b)\n"
      "}\n"
      "\n"
      "ENTRY main {\n"
      "  x = f32[4]{0:T(256)S(1)} parameter(0), sharding={devices=[2,2]<=[4] "
      "last_tile_dim_replicate}, "
      "metadata={op_name=\"x\" source_line=3}\n"
      "  t = (f32[], s32[]) parameter(1)\n"
      "  zero = f32[] get-tuple-element(t), index=0\n"
      "  s = f32[] reduce(x, zero), dimensions={0}, to_apply=add\n"
      "  ROOT r = (f32[4]{0}, f32[]) tuple(x, s)\n"
      "}\n";
  EXPECT_EQ(print(parse(text)), text);
}

TEST(HloText, ReadsTheModulesAttributes) {
  const HloModule module = parse(
      "HloModule m, input_output_alias={ {1}: (0, {0}), {}: (0, {1}, must-alias) },\n"
      "  buffer_donor={(0, {0})}, num_partitions=8, replica_count=2, allow_spmd={true,false},\n"
      "  frontend_attributes={a=\"b\", c={d=[1]}}\n"
      "ENTRY e { ROOT p = (f32[], f32[]) parameter(0) }");
  ASSERT_EQ(module.aliases.size(), 2u);
  EXPECT_EQ(module.aliases[0], (HloAlias{{1}, 0, {0}, false}));
  EXPECT_EQ(module.aliases[1], (HloAlias{{}, 0, {1}, true}));
  ASSERT_EQ(module.donors.size(), 1u);
  EXPECT_EQ(module.donors[0], (HloDonor{0, {0}}));
  EXPECT_EQ(module.num_partitions, 8);
  EXPECT_EQ(module.replica_count, 2);
  EXPECT_EQ(*module.frontend_attributes.find("a"), "\"b\"");
  EXPECT_EQ(*module.frontend_attributes.find("c"), "{d=[1]}");
  EXPECT_EQ(module.frontend_attributes.find("d"), nullptr);
  ASSERT_EQ(module.attributes.size(), 1u);
  EXPECT_EQ(std::get<Verbatim>(module.attributes[0].value).text, "{true,false}");
  EXPECT_EQ(module.instruction_count(), 1);
  round_trip(print(module));
}

TEST(HloText, PercentSignsOperandShapesHeadersAndCommentsAreOptional) {
  const std::string plain = entry_of("a = f32[2]{0} parameter(0)\nROOT b = f32[2]{0} add(a, a)");
  const std::string full =
      "// a dump\nHloModule m\n"
      "ENTRY %main (a: f32[2]) -> f32[2] { /* two\nlines */\n"
      "  %a = f32[2]{0} parameter(0) // the input\n"
      "  ROOT %b = f32[2]{0} add(f32[2]{0} %a, /*index=1*/f32[2] %a)\n"
      "}, execution_thread=\"main\"\n";
  EXPECT_EQ(print(parse(plain)), print(parse(full)));
  const HloModule module = parse(full);
  EXPECT_EQ(root_of(module).line, 6);
  EXPECT_EQ(root_of(module).operands, (std::vector<int>{0, 0}));
  EXPECT_EQ(module.entry_computation().line, 3);
}

TEST(HloText, RootStandsAnywhereAndIsTheLastByDefault) {
  const HloModule marked = parse(entry_of("ROOT a = f32[] parameter(0)\nb = f32[] negate(a)"));
  EXPECT_EQ(marked.entry_computation().root, 0);
  EXPECT_EQ(root_of(marked).name, "a");
  const HloModule unmarked = parse(entry_of("a = f32[] parameter(0)\nb = f32[] negate(a)"));
  EXPECT_EQ(unmarked.entry_computation().root, 1);
  const HloModule named = parse(entry_of("ROOT = f32[] parameter(0)\nb = f32[] negate(ROOT)"));
  EXPECT_EQ(named.entry_computation().root, 1);
  EXPECT_EQ(named.entry_computation().instructions[0].name, "ROOT");
  EXPECT_NE(print(named).find("  %ROOT = f32[] parameter(0)\n"), std::string::npos);
  round_trip(print(named));
}

TEST(HloText, ParametersInAnyOrder) {
  const HloModule module =
      parse(entry_of("b = f32[] parameter(1)\na = s32[] parameter(0)\nROOT t = (f32[]) tuple(b)"));
  EXPECT_EQ(module.entry_computation().parameters(), (std::vector<int>{1, 0}));
  EXPECT_EQ(module.entry_computation().find("a"), 1);
  EXPECT_EQ(module.entry_computation().find("c"), -1);
}

TEST(HloText, CalleesComeFirst) {
  const HloModule module = parse(
      "HloModule m\n"
      "ENTRY main { p = f32[] parameter(0) ROOT c = f32[] call(p), to_apply=outer }\n"
      "unused { p = f32[] parameter(0) }\n"
      "outer { p = f32[] parameter(0) ROOT c = f32[] call(p), to_apply=inner }\n"
      "inner { p = f32[] parameter(0) }\n");
  std::vector<std::string> names;
  for (const HloComputation& computation : module.computations) names.push_back(computation.name);
  EXPECT_EQ(names, (std::vector<std::string>{"unused", "inner", "outer", "main"}));
  EXPECT_EQ(module.entry, 3);
  EXPECT_EQ(module.find("outer"), 2);
  EXPECT_EQ(module.find("other"), -1);
  round_trip(print(module));
}

TEST(HloText, Shapes) {
  const auto shape_of = [](const std::string& text) {
    return parse(entry_of("ROOT p = " + text + " parameter(0)"))
        .entry_computation()
        .instructions[0]
        .shape;
  };
  const HloShape matrix = shape_of("f32[8,16]{1,0:T(8,128)(2,1)S(1)}");
  EXPECT_EQ(matrix.dtype, DType::f32);
  EXPECT_EQ(matrix.dims, (Shape{8, 16}));
  EXPECT_EQ(matrix.layout, "{1,0:T(8,128)(2,1)S(1)}");
  EXPECT_EQ(print(matrix, false), "f32[8,16]");
  EXPECT_TRUE(matrix.same_as(shape_of("f32[8, 16] {0, 1}")));
  EXPECT_FALSE(matrix.same_as(shape_of("bf16[8,16]")));
  EXPECT_FALSE(matrix.same_as(shape_of("(f32[8,16])")));
  EXPECT_EQ(shape_of("f32[]{}").layout, "{}");
  EXPECT_EQ(print(shape_of("f32[8] {0:T(128)}")), "f32[8]{0:T(128)}");

  const HloShape tuple = shape_of("(s32[], (pred[2]{0}, /*index=1*/()), token[])");
  EXPECT_EQ(print(tuple), "(s32[], (pred[2]{0}, ()), token[])");
  ASSERT_EQ(tuple.leaves().size(), 3u);
  EXPECT_EQ(tuple.leaves()[2]->element_type, "token");
  EXPECT_FALSE(tuple.leaves()[2]->dtype.has_value());

  const HloShape bounded = shape_of("f32[<=8,4,?]{2,1,0}");
  EXPECT_EQ(bounded.element_type, "f32[<=8,4,?]");
  EXPECT_FALSE(bounded.dtype.has_value());
  EXPECT_EQ(print(bounded), "f32[<=8,4,?]{2,1,0}");
  EXPECT_EQ(print(shape_of("c128[3]")), "c128[3]");
}

TEST(HloText, NamesKeepWhatNeedsAPercentSign) {
  const std::string text = entry_of(
      "%0 = f32[] parameter(0)\n%-a = f32[] negate(%0)\n_b.1-c = f32[] negate(%-a)\n"
      "nan = f32[] negate(_b.1-c)\nf32 = f32[] negate(nan)\nROOT %ENTRY = f32[] negate(f32)");
  const std::string printed = round_trip(text);
  EXPECT_NE(printed.find("  %-a = f32[] negate(%0)\n"), std::string::npos);
  EXPECT_NE(printed.find("  ROOT %ENTRY = f32[] negate(f32)\n"), std::string::npos);
}

TEST(HloText, SourceTablesAreKept) {
  const std::string text =
      "HloModule m, is_scheduled=true\n\nFileNames\n1 \"train.py\"\n2 "
      "\"model.py\"\n\nFunctionNames\n"
      "1 \"main\"\n\nFileLocations\n1 {file_name_id=1 function_name_id=1 line=10}\n\nStackFrames\n"
      "1 {file_location_id=1}\n\nENTRY main {\n"
      "  ROOT p = f32[] parameter(0), metadata={op_name=\"x\" stack_frame_id=1}\n}\n";
  EXPECT_EQ(print(parse(text)), text);
  round_trip("HloModule m FileNames { p = f32[] parameter(0) } ENTRY e { p = f32[] parameter(0) }");
}

// Ten thousand instructions are no reason to wait.
TEST(HloText, TimeIsLinear) {
  std::string body = "  a0 = f32[8,32]{1,0} parameter(0)\n";
  for (int i = 1; i < 14000; ++i)
    body += cat("  a", i, " = f32[8,32]{1,0} add(a", i - 1, ", a", i / 2,
                "), metadata={op_name=\"jit(step)/add\" source_line=", i, "}\n");
  const auto start = std::chrono::steady_clock::now();
  const HloModule module = parse(entry_of(body));
  const std::string text = print(module);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(module.instruction_count(), 14000);
  EXPECT_LT(seconds.count(), 2.0);  // 0.05 on an idle core
  EXPECT_EQ(text, print(parse(text)));
}

TEST(HloText, LongChainsOfCallsAndTextsOfBracketsEndInTime) {
  std::string calls = "HloModule m\nc0 { p = f32[] parameter(0) }\n";
  for (int i = 1; i < 20000; ++i)
    calls += cat("c", i, " { p = f32[] parameter(0) r = f32[] call(p), to_apply=c", i - 1, " }\n");
  calls += "ENTRY e { p = f32[] parameter(0) }";
  EXPECT_THROW(parse(calls), UserError);
  for (const char* opener : {"(", "{", "[", "\"", "/*", "f32[", "((((f32["}) {
    std::string many;
    for (int i = 0; i < 50000; ++i) many += opener;
    EXPECT_THROW(parse(many), UserError);
    EXPECT_THROW(parse("HloModule m, x=" + many), UserError);
    EXPECT_THROW(parse(entry_of("p = " + many)), UserError);
    EXPECT_THROW(parse(entry_of("p = f32[1] constant(" + many)), UserError);
    EXPECT_THROW(parse(entry_of("p = f32[1] add(" + many)), UserError);
    EXPECT_THROW(parse(entry_of("p = f32[1] add(p), sharding={" + many)), UserError);
  }
}

}  // namespace
}  // namespace tessera::hlo
