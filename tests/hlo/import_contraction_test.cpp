// dot and convolution. Values of convolutions are JAX's.
#include "tests/hlo/run_module.h"

namespace tessera::hlo {
namespace {

using namespace testing;

TEST(ImportContraction, DotWithBatchDims) {
  // [b, m, k] x [b, k, n] -> [b, m, n]
  const HostTensor y =
      run_entry(R"(
    x = f32[2,1,2] parameter(0)
    w = f32[2,2,2] parameter(1)
    ROOT d = f32[2,1,2] dot(x, w), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}, operand_precision={highest,highest}, algorithm=dot_f32_f32_f32)",
                {counting(DType::f32, {2, 1, 2}), counting(DType::f32, {2, 2, 2})});
  EXPECT_EQ(reals(y), (Reals{2, 3, 26, 31}));
}

TEST(ImportContraction, TheResultsTypeIsThatOfTheSum) {
  // 256 + 1 is 257 in f32, 256 in bf16.
  const std::string head = "x = bf16[2] parameter(0)\n";
  const std::string dims = ", lhs_contracting_dims={0}, rhs_contracting_dims={0}";
  HostTensor x({DType::bf16, {2}});
  x.set_real(0, 16);
  x.set_real(1, 1);
  EXPECT_EQ(reals(run_entry(cat(head, "ROOT d = f32[] dot(x, x)", dims), {x})), (Reals{257}));
  EXPECT_EQ(reals(run_entry(cat(head, "ROOT d = bf16[] dot(x, x)", dims), {x})), (Reals{256}));
}

TEST(ImportContraction, DotOfIntegersAndPreds) {
  const std::string dims = ", lhs_contracting_dims={0}, rhs_contracting_dims={0}";
  EXPECT_EQ(reals(run_entry(cat("x = s8[2] parameter(0)\nROOT d = s32[] dot(x, x)", dims),
                            {tensor<int8_t>({2}, {-100, 100})})),
            (Reals{20000}));
  EXPECT_EQ(reals(run_entry(cat("x = s8[2] parameter(0)\ny = u8[2] parameter(1)\n"
                                "ROOT d = s32[] dot(x, y)",
                                dims),
                            {tensor<int8_t>({2}, {-100, 1}), tensor<uint8_t>({2}, {200, 3})})),
            (Reals{-19997}));
  EXPECT_EQ(reals(run_entry(cat("x = pred[2] parameter(0)\ny = pred[2] parameter(1)\n"
                                "ROOT d = pred[] dot(x, y)",
                                dims),
                            {tensor<bool>({2}, {true, true}), tensor<bool>({2}, {true, true})})),
            (Reals{1}));
}

// Values of jax.lax.ragged_dot; groups of 2, 0 and 1 rows, and one row in none.
TEST(ImportContraction, RaggedDot) {
  const HostTensor sizes = tensor<int32_t>({3}, {2, 0, 1}), x = counting(DType::f32, {4, 2});
  const std::string head =
      "x = f32[4,2] parameter(0)\nw = f32[3,2,2] parameter(1)\ng = s32[3] parameter(2)\n";
  const HostTensor w = counting(DType::f32, {3, 2, 2});
  EXPECT_EQ(reals(run_entry(cat(head, "ROOT d = f32[4,2] ragged-dot(x, w, g), lhs_contracting_dims={1}, "
                                      "rhs_contracting_dims={1}, lhs_ragged_dims={0}, "
                                      "rhs_group_dims={0}"),
                            {x, w, sizes})),
            (Reals{2, 3, 6, 11, 82, 91, 0, 0}));
  EXPECT_EQ(reals(run_entry(cat(head, "ROOT d = f32[4,2] ragged-dot(x, w, g), lhs_contracting_dims={1}, "
                                      "rhs_contracting_dims={2}, lhs_ragged_dims={0}, "
                                      "rhs_group_dims={0}"),
                            {x, w, sizes})),
            (Reals{1, 3, 3, 13, 77, 95, 0, 0}));
  EXPECT_EQ(reals(run_entry("x = f32[4,2] parameter(0)\ng = s32[3] parameter(1)\n"
                            "ROOT d = f32[3,2,2] ragged-dot(x, x, g), lhs_contracting_dims={0}, "
                            "rhs_contracting_dims={0}, lhs_ragged_dims={0}, rhs_group_dims={}",
                            {x, sizes})),
            (Reals{4, 6, 6, 10, 0, 0, 0, 0, 16, 20, 20, 25}));
}

TEST(ImportContraction, OperandsOfUnlikeTypes) {
  HostTensor a({DType::f8e4m3fn, {2}}), b({DType::f8e5m2, {2}});
  a.set_real(0, 448);
  a.set_real(1, 2);
  b.set_real(0, 57344);
  b.set_real(1, 1);
  EXPECT_EQ(reals(run_entry("x = f8e4m3fn[2] parameter(0)\ny = f8e5m2[2] parameter(1)\n"
                            "ROOT d = f32[] dot(x, y), lhs_contracting_dims={0}, "
                            "rhs_contracting_dims={0}",
                            {a, b})),
            (Reals{448.0 * 57344 + 2}));
}

TEST(ImportContraction, DotErrors) {
  expect_error(
      module_of("x = f32[2,3] parameter(0)\nROOT d = f32[2,2] dot(x, x), "
                "lhs_contracting_dims={1}, rhs_contracting_dims={0}"),
      {"line 5", "dot_general: contracting dim 1 of f32[2,3] and dim 0 of f32[2,3] differ"});
  expect_error(module_of("x = f32[2] parameter(0)\nROOT d = f32[] dot(x), "
                         "lhs_contracting_dims={0}, rhs_contracting_dims={0}"),
               {"dot"});
}

// (multiplier * i) % modulus - offset, as the values below were made.
HostTensor pattern(Shape shape, int64_t multiplier, int64_t modulus, int64_t offset) {
  HostTensor x({DType::f32, std::move(shape)});
  for (int64_t i = 0; i < x.elements(); ++i)
    x.set_real(i, static_cast<double>(multiplier * i % modulus - offset));
  return x;
}

TEST(ImportContraction, ConvolutionWithStridesPaddingAndDilation) {
  const HostTensor y = run_entry(R"(
    x = f32[2,5,4,2] parameter(0)
    k = f32[3,2,2,4] parameter(1)
    ROOT c = f32[2,3,3,4] convolution(x, k), window={size=3x2 stride=2x1 pad=1_1x0_1 rhs_dilate=1x2}, dim_labels=b01f_01io->b01f)",
                                 {pattern({2, 5, 4, 2}, 1, 7, 3), pattern({3, 2, 2, 4}, 3, 5, 2)});
  EXPECT_EQ(reals(y),
            (Reals{2,   -8,  -8, 2,   0, -5, 10, -10, -2, 2,   6,  0,   5,  1,  7,   -17, -6, -1,
                   14,  -1,  6,  -14, 6, 1,  -9, -1,  7,  5,   5,  -10, 10, -5, 6,   2,   -2, -6,
                   -10, 10,  -5, 0,   2, -8, -8, 2,   0,  0,   0,  0,   -5, 3,  -14, 9,   5,  1,
                   7,   -17, -2, 0,   7, -1, -2, 1,   4,  -13, -9, -1,  7,  5,  5,   -10, 10, -5}));
}

TEST(ImportContraction, ConvolutionInGroups) {
  const HostTensor x = pattern({2, 5, 4, 2}, 1, 7, 3);
  const HostTensor y = run_entry(R"(
    x = f32[2,5,4,2] parameter(0)
    k = f32[3,2,1,4] parameter(1)
    ROOT c = f32[2,7,4,4] convolution(x, k), window={size=3x2 pad=0_0x1_0 lhs_dilate=2x1}, dim_labels=b01f_01io->b01f, feature_group_count=2)",
                                 {x, pattern({3, 2, 1, 4}, 3, 5, 2)});
  const Reals all = reals(y);
  ASSERT_EQ(all.size(), 224u);
  EXPECT_EQ(Reals(all.begin(), all.begin() + 20),
            (Reals{4, 4, -1, 0, 4, 1, -1, -2, -2, -1, 1, 4, 6, -10, 3, 3, 2, -4, 0, 2}));
  EXPECT_EQ(Reals(all.end() - 8, all.end()), (Reals{-5, -2, 9, -7, 3, 3, -10, 6}));

  HostTensor k({DType::f32, {3, 2, 2, 2}});
  const HostTensor whole = pattern({3, 2, 2, 4}, 3, 5, 2);
  for (int64_t i = 0; i < k.elements(); ++i) k.set_real(i, whole.get_real(i / 2 * 4 + i % 2));
  EXPECT_EQ(reals(run_entry(R"(
    x = f32[2,5,4,2] parameter(0)
    k = f32[3,2,2,2] parameter(1)
    ROOT c = f32[1,3,3,2] convolution(x, k), window={size=3x2}, dim_labels=b01f_01io->b01f, batch_group_count=2)",
                            {x, k})),
            (Reals{5, -15, 1, -3, -3, 9, 3, 5, -1, -4, 2, 1, 1, -3, -3, 9, -7, 7}));
}

TEST(ImportContraction, ConvolutionWithoutSpaceIsAProduct) {
  EXPECT_EQ(reals(run_entry("x = f32[2,2] parameter(0)\nk = f32[2,1] parameter(1)\n"
                            "ROOT c = f32[2,1] convolution(x, k), dim_labels=bf_io->bf",
                            {counting(DType::f32, {2, 2}), counting(DType::f32, {2, 1})})),
            (Reals{1, 3}));
}

TEST(ImportContraction, ConvolutionErrors) {
  const auto module = [](std::string_view attributes) {
    return module_of(
        cat("x = f32[2,5,2] parameter(0)\nk = f32[3,2,4] parameter(1)\n"
            "ROOT c = f32[2,3,4] convolution(x, k), ",
            attributes));
  };
  EXPECT_EQ(import_error(module("window={size=3}, dim_labels=b0f_0io->b0f")), "");
  expect_error(module("window={size=2}, dim_labels=b0f_0io->b0f"),
               {"window={size=2} over the kernel f32[3,2,4]"});
  expect_error(module("window={size=3}"), {"convolution needs the attribute dim_labels"});
  expect_error(module("window={size=3x3}, dim_labels=b0f_0io->b0f"), {"2 entries", "for 1 dims"});
  expect_error(module("window={size=3x3}, dim_labels=b01f_01io->b01f"),
               {"dim_labels with 2 spatial dims for f32[2,5,2] and f32[3,2,4]"});
  expect_error(module("window={size=3 stride=0}, dim_labels=b0f_0io->b0f"),
               {"stride=0 must be positive"});
}

}  // namespace
}  // namespace tessera::hlo
