#include "launch/hlo/compare_outputs.h"

#include <gtest/gtest.h>

#include <cmath>

#include "partitioner/hlo/import.h"

namespace tessera {
namespace {

Comparison compare(std::initializer_list<double> expected, std::initializer_list<double> actual, DType dtype = DType::f32,
                   double tolerance = 1e-4) {
  HostTensor a({dtype, {static_cast<int64_t>(expected.size())}}), b = a;
  for (size_t i = 0; i < expected.size(); ++i) {
    a.set_real(static_cast<int64_t>(i), expected.begin()[i]);
    b.set_real(static_cast<int64_t>(i), actual.begin()[i]);
  }
  Comparison result;
  compare_output(2, a, b, tolerance, result);
  return result;
}

TEST(CompareOutputs, FloatsMayDifferAsMuchAsTheirSizeAllows) {
  EXPECT_TRUE(compare({1, 2}, {1, 2}).equal());
  EXPECT_TRUE(compare({1000, 2}, {1000.05, 2}).equal());
  EXPECT_NEAR(compare({1000, 2}, {1000.05, 2}).max_relative_error, 5e-5, 1e-6);
  // Small elements beside large ones: relative to a thousandth of the largest.
  EXPECT_TRUE(compare({1000, 1e-5}, {1000, 2e-5}).equal());
  EXPECT_FALSE(compare({1, 1e-5}, {1, 2e-5}).equal());
}

TEST(CompareOutputs, TheFirstDifferenceIsNamed) {
  const Comparison result = compare({1, 2, 3}, {1, 2.5, 4});
  ASSERT_FALSE(result.equal());
  EXPECT_EQ(result.first->output, 2u);
  EXPECT_EQ(result.first->index, (std::vector<int64_t>{1}));
  EXPECT_EQ(result.first->expected, "2");
  EXPECT_EQ(result.first->actual, "2.5");
  EXPECT_DOUBLE_EQ(result.max_relative_error, 0.25);
}

TEST(CompareOutputs, NanAndInfinityEqualThemselvesAlone) {
  EXPECT_TRUE(compare({NAN, INFINITY, 1}, {NAN, INFINITY, 1}).equal());
  EXPECT_EQ(compare({NAN, INFINITY, 1}, {NAN, INFINITY, 1}).not_finite, 2);
  EXPECT_FALSE(compare({NAN}, {1}).equal());
  EXPECT_FALSE(compare({1}, {NAN}).equal());
  EXPECT_FALSE(compare({INFINITY}, {-INFINITY}).equal());
  EXPECT_EQ(compare({INFINITY}, {1}).max_relative_error, INFINITY);
}

TEST(CompareOutputs, IntegersAndPredsAreExact) {
  EXPECT_TRUE(compare({1, 2}, {1, 2}, DType::s32).equal());
  EXPECT_FALSE(compare({100000, 2}, {100001, 2}, DType::s32).equal());
  EXPECT_FALSE(compare({0}, {1}, DType::pred).equal());
}

TEST(CompareOutputs, ComplexNumbersByTheirParts) {
  HostTensor a({DType::c64, {2}}), b = a;
  a.set_complex(1, {1, 2});
  b.set_complex(1, {1, 2.5});
  Comparison result;
  compare_output(0, a, b, 1e-4, result);
  ASSERT_FALSE(result.equal());
  EXPECT_EQ(result.first->index, (std::vector<int64_t>{1}));
  EXPECT_EQ(result.first->actual, "(1,2.5)");
}

TEST(CompareOutputs, TheNarrowestFloatOfTheProgramSetsTheTolerance) {
  const auto tolerance = [](const char* type) {
    return tolerance_of(hlo::import(hlo::parse(cat("HloModule m\nENTRY main {\n  x = f64[4] parameter(0)\n  y = ", type,
                                                   "[4] convert(x)\n  ROOT z = f64[4] convert(y)\n}\n")))
                            .graph);
  };
  EXPECT_EQ(tolerance("f64"), 1e-10);
  EXPECT_EQ(tolerance("f32"), 1e-4);
  EXPECT_EQ(tolerance("f16"), 1e-2);
  EXPECT_EQ(tolerance("bf16"), 5e-2);
  EXPECT_EQ(tolerance("f8e5m2"), 0.3);
}

}  // namespace
}  // namespace tessera
