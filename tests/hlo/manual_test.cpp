// Manual regions, new style and old, against JAX's values; what is inside and what is outside.
#include "core/ir/regions.h"
#include "core/ops/control.h"
#include "partitioner/hlo/import_annotations.h"
#include "tests/hlo/hlo_testing.h"
#include "tests/hlo/run_sharded.h"

namespace tessera::hlo {
namespace {

using namespace testing;

std::string golden(std::string_view name) {
  return tessera::testing::read_text_file(
      cat(TESSERA_SOURCE_DIR "/tests/hlo/golden/", name, ".hlo"));
}

// ---- Programs of JAX 0.10.2, and what it computes of x = 0, 1, 2, ... --------------------------------

struct JaxProgram {
  const char* file;
  std::vector<Reals> results;
};

Reals repeated(double value, size_t count) { return Reals(count, value); }
Reals counted(double start, double step, size_t count) {
  Reals values;
  for (size_t i = 0; i < count; ++i) values.push_back(start + step * static_cast<double>(i));
  return values;
}
Reals joined(std::initializer_list<Reals> parts) {
  Reals all;
  for (const Reals& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

const Reals kScanned = joined({counted(208, 27, 16), counted(224, 27, 16)});
const Reals kGradient = joined({repeated(112, 3), repeated(120, 3), repeated(128, 3), repeated(136, 3)});
const Reals kMany = {1816, 2127, 2395, 2834};

const JaxProgram kPrograms[] = {
    {"manual_psum", {counted(32, 4, 16)}},
    {"manual_partial", {counted(32, 4, 16)}},
    {"manual_many", {kMany}},
    {"collective_all", {kMany}},
    {"manual_axis_index",
     {{0,   1,   2,   3,   16,  17,  18,  19,  4,   5,   6,   7,   20,  21,  22,  23,
       8,   9,   10,  11,  24,  25,  26,  27,  12,  13,  14,  15,  28,  29,  30,  31,
       121, 122, 123, 124, 137, 138, 139, 140, 125, 126, 127, 128, 141, 142, 143, 144,
       129, 130, 131, 132, 145, 146, 147, 148, 133, 134, 135, 136, 149, 150, 151, 152}}},
    {"manual_in_scan", {kScanned, {496, 1488, 4464}}},
    {"manual_in_scan_tiles", {kScanned, {496, 1488, 4464}}},
    {"manual_around_scan", {joined({counted(32, 5, 16), counted(48, 5, 16)})}},
    {"manual_gradient", {kGradient, repeated(3, 32)}},
    {"manual_gradient_tiles", {kGradient, repeated(3, 32)}},
    {"manual_nested", {counted(496, 1, 32)}},
    {"manual_subgroups", {joined({counted(32, 4, 16), counted(33, 4, 16)})}},
    {"manual_twice",
     {{208, 229, 250, 271, 212, 233, 254, 275, 296, 317, 338, 359, 300, 321, 342, 363}}},
    {"collective_permutes",
     {{0, 0, 6,  7,  2, 3, 10, 11, 2,  3,  8,  9,  0, 1, 0,  1,  0,  0,  12, 13, 4,  5,  10, 11,
       2, 3, 2,  3,  0, 0, 14, 15, 0,  1,  12, 13, 4, 5, 4,  5,  0,  1,  0,  1,  0,  0,  14, 15,
       0, 0, 14, 15, 10, 11, 2, 3, 10, 11, 0,  1,  8, 9, 8,  9,  0,  0,  4,  5,  12, 13, 2,  3,
       10, 11, 10, 11, 0, 0, 6, 7, 8,  9,  4,  5, 12, 13, 12, 13, 8, 9,  8,  9,  0,  0,  6,  7}}},
};

class HloManual : public ::testing::TestWithParam<JaxProgram> {};

TEST_P(HloManual, GivesWhatJaxGives) {
  const std::string text = golden(GetParam().file);
  const Imported imported = import_text(text);
  std::vector<HostTensor> inputs;
  for (const BoundaryLeaf& input : imported.inputs) {
    inputs.push_back(counting(input.type.dtype, input.type.shape));
    if (input.name.starts_with("w")) inputs.back() = HostTensor::filled(input.type, 1);
  }
  for (int64_t devices : {int64_t{0}, 2 * imported.mesh->devices()}) {
    const auto y = expect_equal_on_shards(text, inputs, devices);
    ASSERT_EQ(y.size(), GetParam().results.size());
    for (size_t o = 0; o < y.size(); ++o) expect_near(y[o], GetParam().results[o]);
  }
}

INSTANTIATE_TEST_SUITE_P(Jax, HloManual, ::testing::ValuesIn(kPrograms),
                         [](const auto& info) { return std::string(info.param.file); });

// ---- New style ------------------------------------------------------------------------------------------

constexpr std::string_view kTwice = R"(body {
  a = f32[2,4] parameter(0)
  ROOT r = f32[2,4] add(a, a)
}
pair {
  a = f32[2,4] parameter(0)
  b = f32[] parameter(1)
  ROOT r = (f32[2,4], f32[]) tuple(a, b)
}
)";

std::string sdy(std::string_view entry) {
  std::string text = cat("HloModule m, frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<[\"a\"=4]>}}\n",
                         kTwice, "ENTRY main {\n  x = f32[8,4] parameter(0)\n", entry, "\n}\n");
  // Short for what every border says.
  auto replace = [&](std::string_view key, std::string_view value) {
    for (size_t at; (at = text.find(key)) != std::string::npos;) text.replace(at, key.size(), value);
  };
  replace("TO_LOCAL", "custom_call_target=\"xla.sdy.GlobalToLocalShape\", frontend_attributes={"
          "xla.sdy.in_shardings=\"#sdy.sharding_per_value<[<@mesh, [{\\\"a\\\"}, {}]>]>\","
          "xla.sdy.manual_axes=\"#sdy<manual_axes{\\\"a\\\"}>\"}");
  replace("TO_GLOBAL", "custom_call_target=\"xla.sdy.LocalToGlobalShape\", frontend_attributes={"
          "xla.sdy.out_shardings=\"#sdy.sharding_per_value<[<@mesh, [{\\\"a\\\"}, {}]>]>\","
          "xla.sdy.manual_axes=\"#sdy<manual_axes{\\\"a\\\"}>\"}");
  return text;
}

TEST(HloManualRegions, ABorderCallAndBorderAreOneComputation) {
  const Imported imported = import_text(sdy(R"(
    l = f32[2,4] custom-call(x), TO_LOCAL
    c = f32[2,4] call(l), to_apply=body
    ROOT g = f32[8,4] custom-call(c), TO_GLOBAL)"));
  ASSERT_EQ(imported.graph.instructions.size(), 2u);
  const Instruction& manual = imported.graph.instructions[1];
  EXPECT_TRUE(manual.is(ops::kManualComputation));
  EXPECT_EQ(cat(manual.attributes.get<Shardings>(Attr::in_shardings)[0]), "[{a}, {}]");
  EXPECT_EQ(print_axes(*imported.mesh, manual.attributes.get<AxisList>(Attr::axes)), "a");
  EXPECT_EQ(imported.values.back().first, "g");
}

TEST(HloManualRegions, BordersThatDoNotMeet) {
  expect_error(sdy("ROOT l = f32[2,4] custom-call(x), TO_LOCAL"), {"(%l)", "stands alone"});
  expect_error(sdy("n = f32[2,4] slice(x), slice={[0:2], [0:4]}\nROOT g = f32[8,4] custom-call(n), TO_GLOBAL"),
               {"(%g)", "results of one call"});
  expect_error(sdy("n = f32[2,4] slice(x), slice={[0:2], [0:4]}\nc = f32[2,4] call(n), to_apply=body\n"
                   "ROOT g = f32[8,4] custom-call(c), TO_GLOBAL"),
               {"(%c)", "results of one xla.sdy.GlobalToLocalShape"});
  expect_error(sdy("l = f32[2,4] custom-call(x), TO_LOCAL\ns = f32[] constant(1)\n"
                   "c = (f32[2,4], f32[]) call(l, s), to_apply=pair\n"
                   "u = f32[2,4] get-tuple-element(c), index=0\n"
                   "ROOT g = f32[8,4] custom-call(u), TO_GLOBAL"),
               {"(%g)"});
  expect_error(sdy("l = f32[2,4] custom-call(x), custom_call_target=\"xla.sdy.GlobalToLocalShape\"\n"
                   "c = f32[2,4] call(l), to_apply=body\nROOT g = f32[8,4] custom-call(c), TO_GLOBAL"),
               {"(%l)", "xla.sdy.in_shardings"});
}

TEST(HloManualRegions, DimsThatTheAxesDoNotDivide) {
  std::string text = sdy(R"(
    l = f32[2,4] custom-call(x), TO_LOCAL
    c = f32[2,4] call(l), to_apply=body
    ROOT g = f32[8,4] custom-call(c), TO_GLOBAL)");
  text.replace(text.find("f32[8,4] parameter"), 8, "f32[7,4]");
  expect_error(text, {"(%g)", "dim 0 of f32[7,4]", "4"});
}

TEST(HloManualRegions, ARegionWhoseResultsNobodyReadsIsDropped) {
  const Imported imported = import_text(sdy(R"(
    l = f32[2,4] custom-call(x), TO_LOCAL
    c = f32[2,4] call(l), to_apply=body
    ROOT n = f32[8,4] negate(x))"));
  EXPECT_EQ(imported.graph.instructions.size(), 2u);
}

TEST(HloManualRegions, OnOneDeviceTheyAreCalls) {
  const std::string text = R"(HloModule m, frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<["a"=1]>}}
body {
  a = f32[8] parameter(0)
  ROOT r = f32[8] add(a, a)
}
ENTRY main {
  x = f32[8] parameter(0)
  l = f32[8] custom-call(x), custom_call_target="xla.sdy.GlobalToLocalShape", frontend_attributes={xla.sdy.in_shardings="#sdy.sharding_per_value<[<@mesh, [{\"a\"}]>]>",xla.sdy.manual_axes="#sdy<manual_axes{\"a\"}>"}
  c = f32[8] call(l), to_apply=body
  ROOT g = f32[8] custom-call(c), custom_call_target="xla.sdy.LocalToGlobalShape", frontend_attributes={xla.sdy.out_shardings="#sdy.sharding_per_value<[<@mesh, [{\"a\"}]>]>",xla.sdy.manual_axes="#sdy<manual_axes{\"a\"}>"}
}
)";
  EXPECT_EQ(reals(expect_equal_on_shards(text, {counting(DType::f32, {8})}, 1)[0])[7], 14);
  EXPECT_EQ(count_of(import_text(text).graph, "call"), 1);
}

// ---- Old style ------------------------------------------------------------------------------------------

constexpr std::string_view kAdd = R"(add {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT r = f32[] add(a, b)
}
)";

// In one computation, with values from outside: a constant, a parameter, and the device's number.
TEST(HloManualRegions, WhatStandsBetweenTheBordersIsTakenOut) {
  const std::string text = module_of(R"(
    x = f32[8] parameter(0)
    w = f32[2] parameter(1)
    two = f32[] constant(2)
    b = f32[2] broadcast(two), dimensions={}
    s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    l = f32[2] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual}
    m = f32[2] multiply(l, b)
    i = u32[] partition-id()
    f = f32[] convert(i)
    v = f32[2] broadcast(f), dimensions={}
    n = f32[2] add(m, v)
    o = f32[2] add(n, w)
    r = f32[2] all-reduce(l), channel_id=1, replica_groups={{0,1,2,3}}, use_global_device_ids=true, to_apply=add
    p = f32[2] custom-call(o), custom_call_target="Sharding", sharding={manual}
    g = f32[8] custom-call(p), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]}
    h = f32[2] custom-call(r), custom_call_target="SPMDShardToFullShape", sharding={replicated}
    q = f32[2] multiply(h, b)
    ROOT t = (f32[8], f32[2]) tuple(g, q))",
                                     kAdd);
  for (int64_t devices : {4, 8}) {
    const auto y = expect_equal_on_shards(text, {counting(DType::f32, {8}), floats({100, 200})}, devices);
    EXPECT_EQ(reals(y[0]), (Reals{100, 202, 105, 207, 110, 212, 115, 217}));
    EXPECT_EQ(reals(y[1]), (Reals{24, 32}));
  }
  const Imported imported = import_text(text);
  EXPECT_EQ(count_of(imported.graph, "manual_computation"), 1);
  const Instruction* manual = find_op(imported.graph, "manual_computation");
  EXPECT_EQ(manual->operands.size(), 2u);  // x and w; the others are made inside
}

TEST(HloManualRegions, RegionsInsideOthers) {
  // Over x0 outside, over x1 inside, in one computation.
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0)
    s = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
    l = f32[4,4] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={devices=[1,1,2,2]<=[4] last_tile_dims={manual, replicated}}
    d = f32[4,4] add(l, l)
    e = f32[4,4] custom-call(d), custom_call_target="Sharding", sharding={devices=[1,2,2]<=[2,2]T(1,0) last_tile_dims={manual}}
    k = f32[4,2] custom-call(e), custom_call_target="SPMDFullToShardShape", sharding={manual}
    r = f32[4,2] all-reduce(k), channel_id=1, replica_groups={{0,1},{2,3}}, use_global_device_ids=true, to_apply=add
    o = f32[4,2] custom-call(r), custom_call_target="SPMDShardToFullShape", sharding={devices=[1,1,2,2]<=[4] last_tile_dims={manual, replicated}}
    u = f32[4,2] all-reduce(o), channel_id=2, replica_groups={{0,2},{1,3}}, use_global_device_ids=true, to_apply=add
    g = f32[4,2] custom-call(u), custom_call_target="SPMDShardToFullShape", sharding={replicated}
    ROOT n = f32[4,2] negate(g))",
                                     kAdd);
  // y[i, j] = -2 (x[i, j] + x[i, j + 2] + x[i + 4, j] + x[i + 4, j + 2])
  for (int64_t devices : {4, 8}) {
    const auto y = expect_equal_on_shards(text, {counting(DType::f32, {8, 4})}, devices);
    Reals wanted;
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 2; ++j) wanted.push_back(-2 * (4 * (4 * i + j) + 2 + 2 + 16 + 16));
    EXPECT_EQ(reals(y[0]), wanted);
  }
}

// Named notation; a loop inside, with a collective in its body.
TEST(HloManualRegions, NamedShardingsAndLoops) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0)
    s = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={mesh['a'=2,'b'=2], [{'a'}, {?}]}
    l = f32[4,4] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={mesh['a'=2,'b'=2], [{?}, {?}], manual={'a'}}
    n = f32[4,4] negate(l), sharding={mesh['a'=2,'b'=2], [{?}, {'b'}], manual={'a'}}
    i = s32[] constant(0)
    t = (s32[], f32[4,4]) tuple(i, n)
    w = (s32[], f32[4,4]) while(t), condition=condition, body=body
    v = f32[4,4] get-tuple-element(w), index=1
    g = f32[8,4] custom-call(v), custom_call_target="SPMDShardToFullShape", sharding={mesh['a'=2,'b'=2], [{'a'}, {?}]}
    ROOT r = f32[8,4] negate(g))",
                                     cat(kAdd, R"(body {
  t = (s32[], f32[4,4]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  x = f32[4,4] get-tuple-element(t), index=1
  one = s32[] constant(1)
  n = s32[] add(i, one)
  y = f32[4,4] all-reduce(x), channel_id=1, replica_groups=mesh['a'=2,'b'=2] {'a'}, use_global_device_ids=true, to_apply=add
  ROOT r = (s32[], f32[4,4]) tuple(n, y)
}
condition {
  t = (s32[], f32[4,4]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  c = s32[] constant(2)
  ROOT p = pred[] compare(i, c), direction=LT
}
)"));
  // The sum of both halves, and twice that.
  for (int64_t devices : {4, 8}) {
    const auto y = expect_equal_on_shards(text, {counting(DType::f32, {8, 4})}, devices);
    for (int64_t k = 0; k < 32; ++k)
      EXPECT_EQ(y[0].get_real(k), 2.0 * static_cast<double>(2 * (k % 16) + 16));
  }
}

TEST(HloManualRegions, AValueThatPassesStraightThrough) {
  const std::string text = module_of(R"(
    x = f32[8] parameter(0), sharding={devices=[4]<=[4]}
    l = f32[2] custom-call(x), custom_call_target="SPMDFullToShardShape", sharding={manual}
    ROOT g = f32[8] custom-call(l), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]})");
  EXPECT_EQ(expect_equal_on_shards(text, {counting(DType::f32, {8})}, 4)[0], counting(DType::f32, {8}));
}

// shard_map without its check, of a program that gives each device another result.
TEST(HloManualRegions, ResultsThatDifferWhereTheyMustNot) {
  const std::string text = module_of(R"(
    x = f32[8] parameter(0)
    s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    l = f32[2] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual}
    ROOT g = f32[2] custom-call(l), custom_call_target="SPMDShardToFullShape", sharding={replicated})");
  try {
    run_module(text, {counting(DType::f32, {8})});
    ADD_FAILURE() << "four devices hold four results";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("devices 0 and 1 should hold the same shard of f32[2]"),
              std::string::npos) << error.what();
  }
}

TEST(HloManualRegions, OldBordersThatDoNotFit) {
  auto refused = [](std::string_view body, const std::vector<std::string>& parts) {
    expect_error(module_of(cat("\n    x = f32[8] parameter(0)\n", body), kAdd), parts);
  };
  refused(R"(l = f32[2] custom-call(x), custom_call_target="SPMDFullToShardShape", sharding={manual}
    ROOT g = f32[8] custom-call(l), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]})",
          {"(%l)", "x is cut", "sharding attribute"});
  refused(R"(s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    ROOT l = f32[2] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual})",
          {"(%l)", "root", "inside a manual region"});
  refused(R"(s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    l = f32[4] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual}
    ROOT g = f32[16] custom-call(l), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]})",
          {"f32[2]", "f32[4]"});
  refused(R"(t = (f32[8], f32[8]) tuple(x, x)
    s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    l = f32[2] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual}
    u = ((f32[8], f32[8]), f32[2]) tuple(t, l)
    v = f32[2] get-tuple-element(u), index=1
    ROOT g = f32[8] custom-call(v), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]})",
          {"(%t)", "tuple from outside"});
  refused(R"(s = f32[8] custom-call(x), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    l = f32[2] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={manual}
    n = f32[2] negate(l)
    g = f32[8] custom-call(l), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]}
    h = f32[8] negate(g)
    i = f32[8] custom-call(h), custom_call_target="Sharding", sharding={devices=[4]<=[4]}
    j = f32[2] custom-call(i), custom_call_target="SPMDFullToShardShape", sharding={manual}
    k = f32[2] add(j, n)
    ROOT m = f32[8] custom-call(k), custom_call_target="SPMDShardToFullShape", sharding={devices=[4]<=[4]})",
          {"cannot be taken apart"});
}

TEST(HloManualRegions, AnnotationsAlongManualAxesAreLeftOut) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0), sharding={devices=[2,2]<=[4]}
    s = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
    l = f32[4,4] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={devices=[1,1,2,2]<=[4] last_tile_dims={manual, replicated}}
    n = f32[4,4] negate(l), sharding={devices=[2,2]<=[4]}
    ROOT g = f32[8,4] custom-call(n), custom_call_target="SPMDShardToFullShape", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate})");
  EXPECT_EQ(reals(expect_equal_on_shards(text, {counting(DType::f32, {8, 4})}, 4)[0])[5], -5);
  const Imported imported = import_text(text);
  ASSERT_EQ(imported.notes.size(), 1u);
  EXPECT_NE(imported.notes[0].find("left out: n [{x0}, {x1}]"), std::string::npos) << imported.notes[0];
}

TEST(HloManualRegions, CollectivesOverAxesThatAreNotManual) {
  const std::string text = module_of(R"(
    x = f32[8,4] parameter(0)
    s = f32[8,4] custom-call(x), custom_call_target="Sharding", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
    l = f32[4,4] custom-call(s), custom_call_target="SPMDFullToShardShape", sharding={devices=[1,1,2,2]<=[4] last_tile_dims={manual, replicated}}
    r = f32[4,4] all-reduce(l), channel_id=1, replica_groups={{0,1},{2,3}}, use_global_device_ids=true, to_apply=add
    ROOT g = f32[8,4] custom-call(r), custom_call_target="SPMDShardToFullShape", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate})",
                                     kAdd);
  expect_error(text, {"(%r)", "{{0,1},{2,3}}", "manual"});
}

}  // namespace
}  // namespace tessera::hlo
