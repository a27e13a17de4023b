// The f8 formats in kernels against core/types/narrow_float.h, code by code.
#include "kernels/cpu/f8.h"

#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/max_abs.h"
#include "tests/kernels/cpu/check_call.h"

namespace tessera::cpu {
namespace {

// Every code's value, all midpoints between neighbours, and the floats beside each of these; infinities, NaNs,
// subnormals of f32.
template <typename F8>
std::vector<float> telling_floats() {
  std::vector<float> values = {0.0f, INFINITY, NAN, 1e-45f, 1e-38f, 3e38f, std::bit_cast<float>(0x7f800001u)};
  for (int code = 0; code < 0x80; ++code) {
    F8 a, b;
    a.bits = static_cast<uint8_t>(code), b.bits = static_cast<uint8_t>(code + 1);
    const float x = a, y = b;
    if (std::isfinite(x)) values.push_back(x);
    if (std::isfinite(x) && std::isfinite(y)) values.push_back((x + y) / 2);
  }
  // Beyond the largest number, where the next one would stand.
  for (const float edge : {464.0f, 480.0f, 61440.0f, 65536.0f}) values.push_back(edge);
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i)
    for (const float to : {-INFINITY, INFINITY})
      if (std::isfinite(values[i])) values.push_back(std::nextafter(values[i], to));
  for (size_t i = 0, all = values.size(); i < all; ++i) values.push_back(-values[i]);
  return values;
}

template <typename F8, int kExponent>
void check_format(DType dtype) {
  const std::vector<float> values = telling_floats<F8>();
  for (const float x : values)
    EXPECT_EQ(encode_f8<kExponent>(x), F8(x).bits) << std::hexfloat << x << " as " << dtype;
  HostTensor codes({dtype, {256}});
  for (int code = 0; code < 256; ++code) {
    codes.bytes()[static_cast<size_t>(code)] = static_cast<std::byte>(code);
    F8 number;
    number.bits = static_cast<uint8_t>(code);
    const float want = number, got = std::bit_cast<float>(decode_f8<kExponent>(number.bits));
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got)) << code;
      continue;
    }
    EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << code;
    EXPECT_EQ(encode_f8<kExponent>(got), code) << dtype;
  }
  // The kernels of convert, both ways, for f32 and bf16.
  HostTensor floats = HostTensor::of<float>({static_cast<int64_t>(values.size())}, values);
  for (const DType wide : {DType::f32, DType::bf16}) {
    const HostTensor from = floats.cast(wide);
    EXPECT_TRUE(check_call(ops::kConvert, {{from.type()}, {{Attr::dtype, dtype}}}, {from}).accepted);
    EXPECT_TRUE(check_call(ops::kConvert, {{codes.type()}, {{Attr::dtype, wide}}}, {codes}).accepted);
  }
}

TEST(F8, E4m3) { check_format<float8_e4m3fn, 4>(DType::f8e4m3fn); }
TEST(F8, E5m2) { check_format<float8_e5m2, 5>(DType::f8e5m2); }

TEST(F8, OtherOpsAreLeftToTheReference) {
  const TensorType codes{DType::f8e4m3fn, {8}};
  EXPECT_FALSE(check_call(ops::kAdd, {{codes, codes}, {}}).accepted);
  EXPECT_FALSE(check_call(ops::kConvert, {{codes}, {{Attr::dtype, DType::f8e5m2}}}).accepted);
  EXPECT_FALSE(check_call(ops::kConvert, {{codes}, {{Attr::dtype, DType::f64}}}).accepted);
}

TEST(F8, ProductsOfAllFormats) {
  const Attributes plain{{Attr::lhs_contracting, Ints{2}}, {Attr::rhs_contracting, Ints{0}}, {Attr::lhs_batch, Ints{}},
                         {Attr::rhs_batch, Ints{}},        {Attr::dtype, DType::f32}};
  Attributes gathered = plain, narrow = plain, wide = plain;
  gathered.set(Attr::lhs_contracting, Ints{0, 1});
  gathered.set(Attr::rhs_contracting, Ints{1, 0});
  narrow.set(Attr::dtype, DType::bf16);
  wide.set(Attr::dtype, DType::f64);
  for (const DType lhs : {DType::f8e4m3fn, DType::f8e5m2})
    for (const DType rhs : {DType::f8e4m3fn, DType::f8e5m2}) {
      EXPECT_TRUE(check_call(ops::kDotGeneral, {{{lhs, {3, 50, 70}}, {rhs, {70, 130}}}, plain}).accepted);
      EXPECT_TRUE(check_call(ops::kDotGeneral, {{{lhs, {7, 5, 33}}, {rhs, {5, 7, 20}}}, gathered}).accepted);
      EXPECT_TRUE(check_call(ops::kDotGeneral, {{{lhs, {3, 5, 7}}, {rhs, {7, 3}}}, narrow}).accepted);
      EXPECT_FALSE(check_call(ops::kDotGeneral, {{{lhs, {3, 5, 7}}, {rhs, {7, 3}}}, wide}).accepted);
    }
}

TEST(F8, PowersOfTwo) {
  std::vector<float> values = {0.0f, INFINITY, NAN, 1e-45f, 0x1p-127f, 0x1.8p-127f, 0x1p-126f, 3.4e38f, 0x1.7ffffep127f};
  for (int e = -130; e < 128; e += 3)
    for (const float m : {1.0f, 1.25f, 0x1.7ffffep0f, 1.5f, 0x1.800002p0f, 0x1.fffffep0f}) values.push_back(std::ldexp(m, e));
  for (size_t i = 0, all = values.size(); i < all; ++i) values.push_back(-values[i]);
  const HostTensor x = HostTensor::of<float>({static_cast<int64_t>(values.size())}, values);
  const Attributes to_power{{Attr::exponent_bits, int64_t{8}}, {Attr::mantissa_bits, int64_t{0}}};
  EXPECT_TRUE(check_call(ops::kReducePrecision, {{x.type()}, to_power}, {x}).accepted);
}

TEST(MaxAbs, AgreesWithTheReference) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{17}, Shape{300, 401}}) {
      EXPECT_TRUE(check_call(ops::kMaxAbs, {{{dtype, shape}}, {}, {{-3, 2}}}).accepted);
      HostTensor special({dtype, {40000}});
      for (const double value : {-HUGE_VAL, std::nan("")}) {
        special.set_real(30000, value);
        EXPECT_TRUE(check_call(ops::kMaxAbs, {{special.type()}, {}}, {special}).accepted);
      }
    }
}

}  // namespace
}  // namespace tessera::cpu
