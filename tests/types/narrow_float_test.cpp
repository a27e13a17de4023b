#include "core/types/narrow_float.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tessera {
namespace {

// The format, told again as plain arithmetic: value = (-1)^s 2^(e - bias) (1 + m / 2^M).
template <typename T>
struct Format;
template <>
struct Format<bfloat16> {
  static constexpr int E = 8, M = 7;
  static constexpr bool finite_only = false;
};
template <>
struct Format<float16> {
  static constexpr int E = 5, M = 10;
  static constexpr bool finite_only = false;
};
template <>
struct Format<float8_e5m2> {
  static constexpr int E = 5, M = 2;
  static constexpr bool finite_only = false;
};
template <>
struct Format<float8_e4m3fn> {
  static constexpr int E = 4, M = 3;
  static constexpr bool finite_only = true;
};

template <typename T>
T from_bits(uint32_t bits) {
  T value;
  value.bits = static_cast<decltype(value.bits)>(bits);
  return value;
}

template <typename T>
double value_of_bits(uint32_t bits) {
  using F = Format<T>;
  const int bias = (1 << (F::E - 1)) - 1;
  const double sign = (bits >> (F::E + F::M)) ? -1 : 1;
  const int exponent = static_cast<int>(bits >> F::M) & ((1 << F::E) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << F::M) - 1);
  const int all_ones = (1 << F::E) - 1;
  if (F::finite_only && exponent == all_ones && mantissa == (1 << F::M) - 1) return NAN;
  if (!F::finite_only && exponent == all_ones) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - F::M);
  return sign * std::ldexp((1 << F::M) + mantissa, exponent - bias - F::M);
}

template <typename T>
class NarrowFloat : public testing::Test {
 public:
  static constexpr uint32_t kPatterns = 1u << (8 * sizeof(T));
  static constexpr uint32_t kSign = kPatterns / 2;
};
using Formats = testing::Types<bfloat16, float16, float8_e5m2, float8_e4m3fn>;
TYPED_TEST_SUITE(NarrowFloat, Formats);

TYPED_TEST(NarrowFloat, every_pattern_decodes_to_its_value_and_back) {
  for (uint32_t bits = 0; bits < this->kPatterns; ++bits) {
    const double expected = value_of_bits<TypeParam>(bits);
    const float decoded = from_bits<TypeParam>(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(decoded)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(decoded)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(decoded), expected) << bits;
    ASSERT_EQ(std::signbit(decoded), bits >= this->kSign) << bits;
    ASSERT_EQ(TypeParam(decoded).bits, bits);
  }
}

// Between neighbours a (even or odd) and b: the midpoint goes to the even pattern, all else to the
// nearer one. Midpoints are exact in float, so are their float neighbours.
TYPED_TEST(NarrowFloat, rounds_to_nearest_even) {
  for (uint32_t bits = 0; bits + 1 < this->kSign; ++bits) {
    const double low = value_of_bits<TypeParam>(bits), high = value_of_bits<TypeParam>(bits + 1);
    if (!std::isfinite(low) || !std::isfinite(high)) continue;
    const float middle = static_cast<float>(low + (high - low) / 2);
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(TypeParam(middle).bits, even) << middle;
    ASSERT_EQ(TypeParam(std::nextafter(middle, -1.0f)).bits, bits) << middle;
    ASSERT_EQ(TypeParam(std::nextafter(middle, INFINITY)).bits, bits + 1) << middle;
    ASSERT_EQ(TypeParam(-middle).bits, even | this->kSign) << middle;
  }
}

TYPED_TEST(NarrowFloat, what_is_too_small_goes_to_signed_zero) {
  EXPECT_EQ(TypeParam(0.0f).bits, 0u);
  EXPECT_EQ(TypeParam(-0.0f).bits, this->kSign);
  const float smallest = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(TypeParam(smallest).bits, 0u);
  EXPECT_EQ(TypeParam(-smallest).bits, this->kSign);
}

TYPED_TEST(NarrowFloat, nan_keeps_being_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float small_payload = std::bit_cast<float>(0x7f800001u);
  for (float value : {nan, -nan, small_payload})
    EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(value))));
}

TEST(NarrowFloatOverflow, goes_to_infinity_or_to_nan_where_there_is_none) {
  // Half an ulp above the largest finite value is the first to overflow.
  EXPECT_EQ(static_cast<float>(float16(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(static_cast<float>(float16(65520.0f))));
  EXPECT_EQ(static_cast<float>(float8_e5m2(61439.0f)), 57344.0f);
  EXPECT_TRUE(std::isinf(static_cast<float>(float8_e5m2(61440.0f))));
  EXPECT_EQ(static_cast<float>(float8_e4m3fn(464.0f)), 448.0f);
  EXPECT_TRUE(std::isnan(static_cast<float>(float8_e4m3fn(465.0f))));
  EXPECT_TRUE(std::isnan(static_cast<float>(float8_e4m3fn(INFINITY))));
  EXPECT_EQ(static_cast<float>(float8_e5m2(-INFINITY)), -INFINITY);
  EXPECT_EQ(static_cast<float>(bfloat16(std::numeric_limits<float>::max())), INFINITY);
}

TEST(NarrowFloatKnownValues, match_the_published_encodings) {
  EXPECT_EQ(bfloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bfloat16(3.14159274f).bits, 0x4049);
  EXPECT_EQ(float16(1.0f).bits, 0x3c00);
  EXPECT_EQ(float16(0.333333343f).bits, 0x3555);
  EXPECT_EQ(float16(5.9604645e-08f).bits, 0x0001);
  EXPECT_EQ(float8_e4m3fn(1.0f).bits, 0x38);
  EXPECT_EQ(float8_e4m3fn(448.0f).bits, 0x7e);
  EXPECT_EQ(float8_e4m3fn(0.001953125f).bits, 0x01);
  EXPECT_EQ(float8_e5m2(1.0f).bits, 0x3c);
  EXPECT_EQ(float8_e5m2(1.52587890625e-05f).bits, 0x01);
}

}  // namespace
}  // namespace tessera
