// Random inputs of imported programs: in range where they index, the same on every rank.
#include "launch/hlo/program_inputs.h"

#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "tests/data/temp_folder.h"

namespace tessera {
namespace {

hlo::Imported import_entry(const std::string& body, const std::string& before = "") {
  return hlo::import(hlo::parse(cat("HloModule m\n", before, "\nENTRY main {\n", body, "\n}\n")));
}
std::vector<InputUse> uses_of(const std::string& body, const std::string& before = "") {
  return input_uses(hlo::simplify_imported(import_entry(body, before).graph));
}

TEST(InputUses, TokensOfAGatherAreRowsOfItsTable) {
  const auto uses = uses_of(R"(
  table = f32[50,8] parameter(0)
  tokens = s32[4,3] parameter(1)
  wide = s64[4,3] convert(tokens)
  vectors = s64[4,3,1] reshape(wide)
  ROOT rows = f32[4,3,8] gather(table, vectors), offset_dims={2}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=2, slice_sizes={1,8})");
  EXPECT_FALSE(uses[0].bound.has_value());
  EXPECT_EQ(uses[1].bound, 50);
}

TEST(InputUses, ComponentsOfIndexVectorsAreToldApart) {
  const auto uses = uses_of(R"(
  x = f32[20,30] parameter(0)
  i = s32[4,1] parameter(1)
  j = s32[4,1] parameter(2)
  u = f32[4] parameter(3)
  ij = s32[4,2] concatenate(i, j), dimensions={1}
  ROOT y = f32[20,30] scatter(x, ij, u), update_window_dims={}, inserted_window_dims={0,1}, scatter_dims_to_operand_dims={0,1}, index_vector_dim=1, to_apply=sum)",
                            "sum {\n  a = f32[] parameter(0)\n  b = f32[] parameter(1)\n  ROOT c = f32[] add(a, b)\n}\n");
  EXPECT_EQ(uses[1].bound, 20);
  EXPECT_EQ(uses[2].bound, 30);
}

TEST(InputUses, StartsOfSlicesLeaveRoomForTheSlice) {
  const auto uses = uses_of(R"(
  x = f32[20,6] parameter(0)
  i = s32[] parameter(1)
  zero = s32[] constant(0)
  y = f32[5,6] dynamic-slice(x, i, zero), dynamic_slice_sizes={5,6}
  j = u32[] parameter(2)
  none = u32[] constant(0)
  ROOT z = f32[20,6] dynamic-update-slice(x, y, j, none))");
  EXPECT_EQ(uses[1].bound, 16);
  EXPECT_EQ(uses[2].bound, 16);
}

TEST(InputUses, OneHotsBranchesBitsAndRoots) {
  const auto uses = uses_of(R"(
  label = s32[4] parameter(0)
  spread = s32[4,10] broadcast(label), dimensions={0}
  classes = s32[4,10] iota(), iota_dimension=1
  hot = pred[4,10] compare(spread, classes), direction=EQ
  key = u32[2] parameter(1)
  mixed = u32[2] xor(key, key)
  v = f32[4] parameter(2)
  half = f32[] constant(0.5)
  halves = f32[4] broadcast(half), dimensions={}
  scaled = f32[4] multiply(v, halves)
  root = f32[4] sqrt(scaled)
  count = s32[] parameter(3)
  ROOT out = (pred[4,10], u32[2], f32[4], s32[]) tuple(hot, mixed, root, count))");
  EXPECT_EQ(uses[0].bound, 10);
  EXPECT_TRUE(uses[1].is_bits);
  EXPECT_TRUE(uses[2].is_root);
  EXPECT_FALSE(uses[3].bound || uses[3].is_bits || uses[3].is_root);
}

TEST(InputUses, AreFollowedIntoLoops) {
  const auto uses = uses_of(R"(
  n = s32[] constant(0)
  x = f32[12] parameter(0)
  i = s32[] parameter(1)
  first = f32[1] constant({0})
  start = (s32[], f32[12], s32[], f32[1]) tuple(n, x, i, first)
  loop = (s32[], f32[12], s32[], f32[1]) while(start), condition=goes_on, body=turn
  ROOT y = f32[1] get-tuple-element(loop), index=3)",
                            R"(
turn {
  s = (s32[], f32[12], s32[], f32[1]) parameter(0)
  n = s32[] get-tuple-element(s), index=0
  x = f32[12] get-tuple-element(s), index=1
  i = s32[] get-tuple-element(s), index=2
  one = s32[] constant(1)
  m = s32[] add(n, one)
  y = f32[1] dynamic-slice(x, i), dynamic_slice_sizes={1}
  ROOT t = (s32[], f32[12], s32[], f32[1]) tuple(m, x, i, y)
}
goes_on {
  s = (s32[], f32[12], s32[], f32[1]) parameter(0)
  n = s32[] get-tuple-element(s), index=0
  three = s32[] constant(3)
  ROOT p = pred[] compare(n, three), direction=LT
})");
  EXPECT_EQ(uses[1].bound, 12);
}

constexpr const char* kEcho = R"(
  a = f32[6,4] parameter(0)
  b = s32[5] parameter(1)
  c = pred[64] parameter(2)
  ROOT out = (f32[6,4], s32[5], pred[64]) tuple(a, b, c))";

TEST(ProgramInputs, BlocksArePartsOfTheWhole) {
  const hlo::Imported imported = import_entry(kEcho);
  const ProgramInputs inputs(imported.graph, imported.inputs, {.seed = 3});
  const std::vector<int64_t> start = {2, 1};
  EXPECT_EQ(inputs.block(0, start, {3, 2}), inputs.whole(0).slice(start, {3, 2}));
  EXPECT_EQ(ProgramInputs(imported.graph, imported.inputs, {.seed = 3}).whole(0), inputs.whole(0));
  EXPECT_FALSE(ProgramInputs(imported.graph, imported.inputs, {.seed = 4}).whole(0) == inputs.whole(0));
  int64_t heads = 0;
  for (int64_t i = 0; i < 64; ++i) heads += inputs.whole(2).get_int(i);
  EXPECT_GT(heads, 16);
  EXPECT_LT(heads, 48);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_GE(inputs.whole(1).get_int(i), 0);
    EXPECT_LT(inputs.whole(1).get_int(i), 8);
  }
}

TEST(ProgramInputs, IntegersAreWholeFloats) {
  const hlo::Imported imported = import_entry(kEcho);
  const HostTensor x = ProgramInputs(imported.graph, imported.inputs, {.integers = true}).whole(0);
  for (int64_t i = 0; i < x.elements(); ++i) {
    EXPECT_EQ(x.get_real(i), std::trunc(x.get_real(i)));
    EXPECT_LE(std::abs(x.get_real(i)), 4);
  }
}

TEST(ProgramInputs, FilesComeFirstAndAreChecked) {
  const hlo::Imported imported = import_entry(kEcho);
  const TempFolder folder;
  HostTensor given({DType::f32, {6, 4}});
  given.set_real(5, 2.5);
  write_npy(folder / "a.npy", given);
  write_npy(folder / "wrong.npy", HostTensor(TensorType{DType::f64, {6, 4}}));
  const ProgramInputs inputs(imported.graph, imported.inputs, {.files = {folder / "a.npy"}});
  EXPECT_EQ(inputs.files(), 1u);
  EXPECT_EQ(inputs.whole(0), given);
  folder.write("made/nothing", "");
  std::filesystem::copy_file(folder / "a.npy", folder / "made/input.0.npy");
  EXPECT_EQ(ProgramInputs(imported.graph, imported.inputs, {.files = {folder / "made"}}).whole(0), given);
  const auto refusal = [&](std::vector<std::string> files) -> std::string {
    try {
      ProgramInputs(imported.graph, imported.inputs, {.files = std::move(files)});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  const std::string a = folder / "a.npy";
  EXPECT_NE(refusal({folder / "wrong.npy"}).find("is f64[6,4], but parameter 0 (a), input 0, is f32[6,4]"), std::string::npos);
  EXPECT_NE(refusal({a, a}).find("is f32[6,4], but parameter 1 (b), input 1, is s32[5]"), std::string::npos);
  EXPECT_NE(refusal({a, a, a, a}).find("given 4 files, but the program takes 3 inputs"), std::string::npos);
  EXPECT_NE(refusal({folder.path()}).find("has no input.0.npy"), std::string::npos);
  EXPECT_NE(refusal({folder / "none.npy"}).find("none.npy cannot be read"), std::string::npos) << refusal({folder / "none.npy"});
}

}  // namespace
}  // namespace tessera
