// constant, iota, broadcast, reshape, bitcast, transpose, reverse, concatenate, pad, slice.
#include "core/ops/structure.h"
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

TEST(ImportStructure, EqualElementsBecomeOneNumber) {
  const Imported imported = import_text(module_of(R"(
    a = f32[2,3] constant({{1.5, 1.5, 1.5}, {1.5, 1.5, 1.5}})
    b = f32[] constant(-0)
    c = s64[] constant(9223372036854775807)
    d = f32[3] constant({1, 2, 3})
    e = pred[2] constant({true, true})
    f = c64[] constant((1, 0))
    ROOT t = (f32[2,3], f32[], s64[], f32[3], pred[2], c64[]) tuple(a, b, c, d, e, f))"));
  std::vector<bool> are_scalar;
  for (const Instruction& instruction : imported.graph.instructions)
    are_scalar.push_back(instruction.attributes.has(Attr::scalar));
  // 2^63 - 1 is no double.
  EXPECT_EQ(are_scalar, (std::vector<bool>{true, true, false, false, true, true}));
  const std::vector<HostTensor> y = interpret(imported.graph, {});
  EXPECT_EQ(reals(y[0]), Reals(6, 1.5));
  EXPECT_TRUE(std::signbit(y[1].get_real(0)));
  EXPECT_EQ(y[2].get_int(0), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(reals(y[3]), (Reals{1, 2, 3}));
  EXPECT_EQ(y[5].get_complex(0), std::complex<double>(1, 0));
}

TEST(ImportStructure, TupleLiterals) {
  const std::vector<HostTensor> y =
      run_module(module_of("ROOT t = (f32[2], (s32[], pred[])) constant(({1, 2}, (7, true)))"));
  ASSERT_EQ(y.size(), 3u);
  EXPECT_EQ(reals(y[0]), (Reals{1, 2}));
  EXPECT_EQ(reals(y[1]), (Reals{7}));
  EXPECT_EQ(reals(y[2]), (Reals{1}));
}

TEST(ImportStructure, Iota) {
  EXPECT_EQ(reals(run_entry("ROOT i = f32[2,3] iota(), iota_dimension=1")),
            (Reals{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(reals(run_entry("ROOT i = s32[2,3] iota(), iota_dimension=0")),
            (Reals{0, 0, 0, 1, 1, 1}));
  expect_error(module_of("ROOT i = s32[2,3] iota(), iota_dimension=2"), {"iota: dimension 2"});
}

TEST(ImportStructure, BroadcastPutsDimsAnywhere) {
  EXPECT_EQ(reals(run_entry("x = f32[2] parameter(0)\n"
                            "ROOT y = f32[2,2,2] broadcast(x), dimensions={1}",
                            {floats({1, 2})})),
            (Reals{1, 1, 2, 2, 1, 1, 2, 2}));
  EXPECT_EQ(reals(run_entry("x = f32[] parameter(0)\nROOT y = f32[3] broadcast(x), dimensions={}",
                            {tensor<float>({}, {4})})),
            (Reals{4, 4, 4}));
  // Dims that turn round: a transpose.
  EXPECT_EQ(reals(run_entry("x = f32[2,3] parameter(0)\n"
                            "ROOT y = f32[3,2] broadcast(x), dimensions={1,0}",
                            {counting(DType::f32, {2, 3})})),
            (Reals{0, 3, 1, 4, 2, 5}));
  const std::string head = "x = f32[2] parameter(0)\nROOT y = f32[2,3] broadcast(x), dimensions=";
  expect_error(module_of(head + "{1}"),
               {"dim 0 of f32[2] becomes dim 1 of f32[2,3], but their sizes differ"});
  expect_error(module_of(head + "{0,1}"), {"dimensions={0,1} for f32[2]"});
  expect_error(module_of(head + "{7}"), {"dimensions={7} must be different dims below 2"});
}

TEST(ImportStructure, ReshapeAndBitcast) {
  EXPECT_EQ(run_entry("x = f32[2,3] parameter(0)\nROOT y = f32[3,2] reshape(x)",
                      {counting(DType::f32, {2, 3})}),
            counting(DType::f32, {3, 2}));
  EXPECT_EQ(run_entry("x = f32[2,3]{1,0} parameter(0)\nROOT y = f32[6]{0} bitcast(x)",
                      {counting(DType::f32, {2, 3})}),
            counting(DType::f32, {6}));
  EXPECT_EQ(reals(run_entry("x = f32[1] parameter(0)\nROOT y = s32[1] bitcast(x)", {floats({1})})),
            (Reals{0x3f800000}));
  EXPECT_EQ(unsupported_of(module_of("x = f32[2,3]{1,0} parameter(0)\n"
                                     "ROOT y = f32[3,2]{0,1} bitcast(x)")),
            (std::vector<std::string>{"opcode bitcast to another layout"}));
  expect_error(module_of("x = f32[2,3] parameter(0)\nROOT y = f32[7] reshape(x)"),
               {"line 5", "reshape", "f32[2,3]"});
}

TEST(ImportStructure, TransposeAndReverse) {
  EXPECT_EQ(
      reals(run_entry("x = f32[2,3] parameter(0)\nROOT y = f32[3,2] transpose(x), dimensions={1,0}",
                      {counting(DType::f32, {2, 3})})),
      (Reals{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(
      reals(run_entry("x = f32[2,3] parameter(0)\nROOT y = f32[2,3] reverse(x), dimensions={1}",
                      {counting(DType::f32, {2, 3})})),
      (Reals{2, 1, 0, 5, 4, 3}));
  expect_error(module_of("x = f32[2,3] parameter(0)\n"
                         "ROOT y = f32[3,2] transpose(x), dimensions={1,1}"),
               {"dimensions={1,1} must be different dims below 2"});
}

TEST(ImportStructure, Concatenate) {
  EXPECT_EQ(reals(run_entry("x = f32[2] parameter(0)\ny = f32[1] parameter(1)\n"
                            "ROOT z = f32[5] concatenate(x, y, x), dimensions={0}",
                            {floats({1, 2}), floats({3})})),
            (Reals{1, 2, 3, 1, 2}));
  EXPECT_EQ(reals(run_entry("x = f32[2] parameter(0)\n"
                            "ROOT z = f32[2] concatenate(x), dimensions={0}",
                            {floats({1, 2})})),
            (Reals{1, 2}));
  expect_error(module_of("x = f32[2] parameter(0)\n"
                         "ROOT z = f32[4] concatenate(x, x), dimensions={1}"),
               {"dimensions={1}"});
}

TEST(ImportStructure, PadWithNegativeAndInteriorAmounts) {
  const auto pad = [](const char* type, const char* padding) {
    return reals(run_entry(cat("x = f32[3] parameter(0)\nv = f32[] constant(9)\nROOT y = ", type,
                               " pad(x, v), padding=", padding),
                           {floats({1, 2, 3})}));
  };
  EXPECT_EQ(pad("f32[6]", "1_2"), (Reals{9, 1, 2, 3, 9, 9}));
  EXPECT_EQ(pad("f32[5]", "-1_1_1"), (Reals{9, 2, 9, 3, 9}));
  EXPECT_EQ(pad("f32[1]", "-1_-1"), (Reals{2}));
  expect_error(module_of("x = f32[3] parameter(0)\nv = f32[] constant(9)\n"
                         "ROOT y = f32[6] pad(x, v), padding=1_2x0_0"),
               {"padding has 2 entries for f32[3]"});
  expect_error(module_of("x = f32[3] parameter(0)\nv = f32[] constant(9)\n"
                         "ROOT y = f32[6] pad(x, v), padding=9223372036854775807_2"),
               {"9223372036854775807 is no extent"});
}

TEST(ImportStructure, Slice) {
  EXPECT_EQ(reals(run_entry("x = f32[3,4] parameter(0)\n"
                            "ROOT y = f32[2,2] slice(x), slice={[0:3:2], [1:3]}",
                            {counting(DType::f32, {3, 4})})),
            (Reals{1, 2, 9, 10}));
  expect_error(module_of("x = f32[3] parameter(0)\nROOT y = f32[2] slice(x), slice={[2:4]}"),
               {"slice: dim 0 from 2 to 4 by 1 does not lie in f32[3]"});
  expect_error(module_of("x = f32[3] parameter(0)\nROOT y = f32[2] slice(x)"),
               {"slice needs the attribute slice"});
}

TEST(ImportStructure, DimensionSizesAreKnown) {
  EXPECT_EQ(reals(run_entry("x = f32[3,4] parameter(0)\n"
                            "ROOT y = s32[] get-dimension-size(x), dimensions={1}",
                            {counting(DType::f32, {3, 4})})),
            (Reals{4}));
}

}  // namespace
}  // namespace tessera::hlo
