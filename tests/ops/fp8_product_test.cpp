#include "core/ops/fp8_product.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/max_abs.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;
using testing::random_tensor;
using testing::tensor;

const Attributes kMatrices{{Attr::lhs_contracting, Ints{1}},
                           {Attr::rhs_contracting, Ints{0}},
                           {Attr::lhs_batch, Ints{}},
                           {Attr::rhs_batch, Ints{}}};

// x times 1, so that the result is what x was rounded to.
double rounded(const OpDef& op, std::vector<double> values, size_t which) {
  const auto n = static_cast<int64_t>(values.size());
  HostTensor one({DType::f64, {n, 1}});
  one.set_real(static_cast<int64_t>(which), 1);
  return evaluate(op, kMatrices, {tensor<double>({1, n}, values), one})[0].get_real(0);
}

TEST(Fp8Product, RoundsToTheFormatOfItsSide) {
  // 448 is representable at scale 2: three bits behind the leading one.
  EXPECT_EQ(rounded(ops::kDotGeneralFp8, {1, 0.53}, 1), 0.5);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8, {1, 0.54}, 1), 0.5625);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8GradLeft, {1, 0.56}, 1), 0.5);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8GradLeft, {1, 0.57}, 1), 0.625);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8GradRight, {1, 0.54}, 1), 0.5625);
}

// Scales are powers of two: only what underflows depends on the rest of the tensor.
TEST(Fp8Product, TheLargestValueIsKeptAndSmallOnesVanish) {
  for (const double largest : {1.0, 1.49, 1.5, 1.51, 1.99, 3e-5, 7e8, 1e-30}) {
    EXPECT_NEAR(rounded(ops::kDotGeneralFp8, {largest, 0}, 0), largest, largest / 16);
    EXPECT_NEAR(rounded(ops::kDotGeneralFp8GradLeft, {largest, 0}, 0), largest, largest / 8);
  }
  EXPECT_EQ(rounded(ops::kDotGeneralFp8, {1, 0x1p-17}, 1), 0x1p-17);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8, {1, 0x1p-19}, 1), 0);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8GradLeft, {1, 0x1p-31}, 1), 0x1p-31);
  EXPECT_EQ(rounded(ops::kDotGeneralFp8GradLeft, {1, 0x1p-33}, 1), 0);
}

TEST(Fp8Product, ZerosAreZeroAndInfinitiesPoison) {
  EXPECT_EQ(rounded(ops::kDotGeneralFp8, {0, 0}, 0), 0);
  EXPECT_TRUE(std::isnan(rounded(ops::kDotGeneralFp8, {INFINITY, 1}, 1)));
  EXPECT_TRUE(std::isnan(rounded(ops::kDotGeneralFp8GradLeft, {NAN, 1}, 1)));
}

TEST(Fp8Product, TakesFloatsOf16BitsOrMore) {
  Graph graph;
  Builder b(graph);
  const Value narrow = b.input(InputKind::data, "x", {DType::f8e5m2, {4, 4}});
  EXPECT_THROW(ops::dot_general_fp8(b, narrow, narrow, {{1}, {0}}), UserError);
}

// Both gradients are within the formats' rounding of the exact ones, in whichever order the dims stand.
TEST(Fp8Product, GradientsAreProductsInFp8) {
  for (const ops::DotDims& dims : {ops::DotDims{{2}, {0}}, ops::DotDims{{2}, {1}}, ops::DotDims{{0, 1}, {0, 1}}}) {
    std::vector<std::vector<HostTensor>> found;
    for (const bool is_fp8 : {true, false}) {
      Graph graph;
      Builder b(graph);
      const Value x = b.input(InputKind::data, "x", {DType::f64, {6, 6, 6}});
      const Value w = b.input(InputKind::parameter, "w",
                              {DType::f64, dims.lhs_contracting.size() == 2 ? Shape{6, 6, 6} : Shape{6, 6}});
      const Value y = is_fp8 ? ops::dot_general_fp8(b, x, w, dims) : ops::dot_general(b, x, w, dims);
      const Value loss = ops::reduce_all(b, ops::multiply(b, y, y));
      const Value wrt[] = {x, w};
      for (const Value gradient : gradients(b, loss, wrt)) b.output(gradient, "g");
      std::mt19937_64 rng(3);
      found.push_back(interpret(graph, std::vector{random_tensor(graph.type(x), -1, 1, rng),
                                                   random_tensor(graph.type(w), -1, 1, rng)}));
      int products = 0;
      for (const Instruction& it : graph.instructions) {
        EXPECT_FALSE(is_fp8 && it.is(ops::kDotGeneral));
        products += it.is(ops::kDotGeneralFp8GradLeft) || it.is(ops::kDotGeneralFp8GradRight);
      }
      EXPECT_EQ(products, is_fp8 ? 2 : 0);
    }
    for (size_t i = 0; i < 2; ++i) {
      double error = 0, size = 0;
      for (int64_t e = 0; e < found[0][i].elements(); ++e) {
        error += std::pow(found[0][i].get_real(e) - found[1][i].get_real(e), 2);
        size += std::pow(found[1][i].get_real(e), 2);
      }
      EXPECT_LT(std::sqrt(error / size), 0.1);
      EXPECT_GT(error, 0);
    }
  }
}

TEST(MaxAbs, OfAnySigns) {
  EXPECT_EQ(evaluate(ops::kMaxAbs, {}, {tensor<float>({3}, {1, -3, 2})})[0], tensor<float>({}, {3}));
  EXPECT_EQ(evaluate(ops::kMaxAbs, {}, {HostTensor({DType::bf16, {0, 4}})})[0], tensor<float>({}, {0}));
  EXPECT_TRUE(std::isnan(evaluate(ops::kMaxAbs, {}, {tensor<float>({3}, {1, NAN, 2})})[0].get_real(0)));
}

}  // namespace
}  // namespace tessera
