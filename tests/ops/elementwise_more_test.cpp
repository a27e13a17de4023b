#include <gtest/gtest.h>

#include "core/ops/complex.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;
using testing::tensor;

template <typename T>
HostTensor line(std::vector<T> values) {
  const auto size = static_cast<int64_t>(values.size());
  return tensor<T>({size}, values);
}
HostTensor preds(std::vector<int> values) {
  HostTensor made({DType::pred, {static_cast<int64_t>(values.size())}});
  for (size_t i = 0; i < values.size(); ++i) made.set_int(static_cast<int64_t>(i), values[i]);
  return made;
}
HostTensor of(const OpDef& op, std::vector<HostTensor> operands, Attributes attributes = {}) {
  return evaluate(op, attributes, operands)[0];
}

TEST(Rounding, Halves) {
  const HostTensor x = line<double>({-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4});
  EXPECT_EQ(of(ops::kRoundNearestEven, {x}), line<double>({-2, -2, -0.0, 0, 2, 2, 0}));
  EXPECT_EQ(of(ops::kRoundNearestAfz, {x}), line<double>({-3, -2, -1, 1, 2, 3, 0}));
  EXPECT_EQ(of(ops::kFloor, {x}), line<double>({-3, -2, -1, 0, 1, 2, 0}));
  EXPECT_EQ(of(ops::kCeil, {x}), line<double>({-2, -1, -0.0, 1, 2, 3, 1}));
}

// The StableHLO specification's example, and what it leaves open.
TEST(Remainder, HasTheSignOfTheDividend) {
  EXPECT_EQ(of(ops::kRemainder, {line<int64_t>({17, -17, 17, -17, 5, INT64_MIN}),
                                 line<int64_t>({3, 3, -3, -3, 0, -1})}),
            line<int64_t>({2, -2, 2, -2, 5, 0}));
  EXPECT_EQ(of(ops::kRemainder, {line<double>({5.5, -5.5}), line<double>({2, 2})}),
            line<double>({1.5, -1.5}));
}

TEST(Bits, ShiftsByTheWidthAndMore) {
  const HostTensor x = line<int8_t>({-8, -8, -8, -8, 1}), by = line<int8_t>({1, 7, 8, -1, 6});
  EXPECT_EQ(of(ops::kShiftLeft, {x, by}), line<int8_t>({-16, 0, 0, 0, 64}));
  EXPECT_EQ(of(ops::kShiftRightArithmetic, {x, by}), line<int8_t>({-4, -1, -1, -1, 0}));
  EXPECT_EQ(of(ops::kShiftRightLogical, {x, by}), line<int8_t>({124, 1, 0, 0, 0}));
}

TEST(Bits, Counts) {
  EXPECT_EQ(of(ops::kPopcnt, {line<int8_t>({0, 1, -1, 127})}), line<int8_t>({0, 1, 8, 7}));
  EXPECT_EQ(of(ops::kCountLeadingZeros, {line<int16_t>({0, 1, -1, 255})}),
            line<int16_t>({16, 15, 0, 8}));
  EXPECT_EQ(of(ops::kLogicalXor, {line<uint8_t>({0x0f}), line<uint8_t>({0x3c})}),
            line<uint8_t>({0x33}));
}

TEST(BitcastConvert, ChangesTheRankByTheRatio) {
  const HostTensor words =
      of(ops::kBitcastConvert, {line<double>({1.0})}, {{Attr::dtype, DType::u32}});
  EXPECT_EQ(words, tensor<uint32_t>({1, 2}, {0, 0x3ff00000}));
  EXPECT_EQ(of(ops::kBitcastConvert, {words}, {{Attr::dtype, DType::f64}}), line<double>({1.0}));
  EXPECT_EQ(of(ops::kBitcastConvert, {line<float>({1.0f})}, {{Attr::dtype, DType::s32}}),
            line<int32_t>({0x3f800000}));
  EXPECT_THROW(
      of(ops::kBitcastConvert, {tensor<float>({3}, {1, 2, 3})}, {{Attr::dtype, DType::f64}}),
      UserError);
}

// e5m10 is f16: everything that f16 holds as a normal number, nothing else.
TEST(ReducePrecision, IsThatOfTheFormat) {
  const Attributes half{{Attr::exponent_bits, int64_t{5}}, {Attr::mantissa_bits, int64_t{10}}};
  std::mt19937_64 rng(1);
  const HostTensor x = testing::random_tensor({DType::f32, {500}}, -1000, 1000, rng);
  EXPECT_EQ(of(ops::kReducePrecision, {x}, half), x.cast(DType::f16).cast(DType::f32));
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(
      of(ops::kReducePrecision, {line<float>({65519, 65520, -1e9f, 1e-7f, -1e-7f, inf})}, half),
      line<float>({65504, inf, -inf, 0, -0.0f, inf}));
}

TEST(Compare, TotalOrder) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const HostTensor x = line<double>({-0.0, -nan, 1, nan}), y = line<double>({0.0, 1, nan, nan});
  const Attributes less{{Attr::direction, CompareDirection::lt}, {Attr::total_order, true}};
  EXPECT_EQ(of(ops::kCompare, {x, y}, less), preds({true, true, true, false}));
  EXPECT_EQ(of(ops::kCompare, {x, y},
               {{Attr::direction, CompareDirection::eq}, {Attr::total_order, true}}),
            preds({false, false, false, true}));
}

TEST(Complex, PartsAndBack) {
  const HostTensor re = line<float>({1, -2}), im = line<float>({3, 4});
  const HostTensor z = of(ops::kMakeComplex, {re, im});
  EXPECT_EQ(of(ops::kReal, {z}), re);
  EXPECT_EQ(of(ops::kImag, {z}), im);
  const HostTensor square = of(ops::kMultiply, {z, z});
  EXPECT_EQ(square.get_complex(0), std::complex<double>(-8, 6));
  EXPECT_NEAR(of(ops::kAbs, {z}).get_real(1), std::sqrt(20.0), 1e-6);
}

TEST(Select, TakesScalars) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {3}});
  const Value low = ops::constant(b, 0, {DType::f32, {}}),
              high = ops::constant(b, 1, {DType::f32, {}});
  const Value pred = b.input(InputKind::data, "p", {DType::pred, {}});
  EXPECT_EQ(b.shape(ops::select(b, pred, ops::clamp(b, low, x, high), x)), Shape{3});
}

}  // namespace
}  // namespace tessera
