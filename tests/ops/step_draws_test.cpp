// What a training step draws: masks of dropout and stochastic rounding. Bounds of statistics are five
// standard deviations of what is claimed.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/dropout.h"
#include "core/ops/optimizer.h"
#include "core/ops/philox.h"
#include "core/ops/structure.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;

HostTensor counter(int64_t value) { return HostTensor::filled({DType::s64, {}}, static_cast<double>(value)); }

// ---- Bits

TEST(StepBits, EightNeighboursShareABlock) {
  const uint64_t seed = 0x123456789a, site = kRoundingSites + 5, step = 77;
  for (uint64_t index : {uint64_t{0}, uint64_t{9}, uint64_t{1} << 40}) {
    const PhiloxCounter block = step_bits(seed, site, step, index / 8);
    EXPECT_EQ(step_bits_of(seed, site, step, index), block[index % 8 / 2] >> (16 * (index % 2)) & 0xffff);
  }
  EXPECT_NE(step_bits(seed, site, step, 3), step_bits(seed, site, step + 1, 3));
  EXPECT_NE(step_bits(seed, site, step, 3), step_bits(seed, site + 1, step, 3));
  EXPECT_NE(step_bits(seed, site, step, 3), step_bits(seed + 1, site, step, 3));
}

// ---- Stochastic rounding

TEST(StochasticRounding, ChoosesNeighboursByDistance) {
  constexpr float kUlp = 1.0f / 128;  // of bf16 in [1, 2)
  constexpr int kDraws = 1 << 16;
  for (const float share : {0.1f, 0.5f, 0.75f}) {
    int up = 0;
    for (uint64_t i = 0; i < kDraws; ++i) {
      const uint16_t bits = ops::round_stochastically(1 + share * kUlp, step_bits_of(1, 2, 3, i));
      ASSERT_TRUE(bits == 0x3f80 || bits == 0x3f81);
      up += bits == 0x3f81;
    }
    EXPECT_NEAR(up, share * kDraws, 5 * std::sqrt(share * (1 - share) * kDraws));
  }
}

TEST(StochasticRounding, KeepsWhatBf16HoldsAndWhatIsNoNumber) {
  for (const uint32_t random : {0u, 0x8000u, 0xffffu}) {
    for (const float value : {0.0f, -0.0f, 1.0f, -2.5f, INFINITY, -INFINITY})
      EXPECT_EQ(ops::round_stochastically(value, random), bfloat16(value).bits);
    EXPECT_TRUE(std::isnan(bfloat16(std::bit_cast<bfloat16>(ops::round_stochastically(NAN, random)))));
  }
}

// A second moment that decays by a thousandth a step: less than half a unit in the last place, so that
// rounding to nearest never moves it.
TEST(StochasticRounding, SecondMomentsDecay) {
  constexpr int64_t kElements = 4096;
  constexpr int kSteps = 200;
  const TensorType wide{DType::f32, {kElements}}, narrow{DType::bf16, {kElements}};
  const HostTensor zero = HostTensor::filled(wide, 0), one = HostTensor::filled({DType::f32, {}}, 1);
  for (const bool is_stochastic : {true, false}) {
    Attributes attributes = {
        {Attr::beta1, 0.9}, {Attr::beta2, 0.999}, {Attr::epsilon, 1e-8}, {Attr::weight_decay, 0.0}};
    if (is_stochastic) {
      attributes.set(Attr::seed, int64_t{1});
      attributes.set(Attr::seed_site, kRoundingSites);
    }
    HostTensor m(narrow), v = HostTensor::filled(narrow, 1);
    for (int step = 0; step < kSteps; ++step) {
      std::vector<HostTensor> operands{zero, m, v, zero, one, one, one, one};
      if (is_stochastic) operands.push_back(counter(step));
      v = evaluate(ops::kAdamW, attributes, operands)[2];
    }
    double mean = 0;
    for (int64_t i = 0; i < kElements; ++i) mean += v.get_real(i) / kElements;
    // One element deviates by less than 0.05.
    EXPECT_NEAR(mean, is_stochastic ? std::pow(0.999, kSteps) : 1.0, is_stochastic ? 0.004 : 0);
  }
}

// ---- Dropout

Attributes dropout_of(double rate) {
  return {{Attr::rate, rate}, {Attr::seed, int64_t{5}}, {Attr::seed_site, kDropoutSites + 1}};
}

TEST(Dropout, IsUnbiased) {
  const HostTensor ones = HostTensor::filled({DType::f32, {64, 1024}}, 1);
  const double count = static_cast<double>(ones.elements());
  for (const double rate : {0.1, 0.5, 0.9}) {
    const HostTensor y = evaluate(ops::kDropout, dropout_of(rate), {ones, counter(3), counter(0)})[0];
    double dropped = 0, mean = 0;
    for (int64_t i = 0; i < y.elements(); ++i) {
      dropped += y.get_real(i) == 0;
      mean += y.get_real(i) / count;
    }
    EXPECT_NEAR(dropped, rate * count, 5 * std::sqrt(rate * (1 - rate) * count));
    EXPECT_NEAR(mean, 1, 5 * std::sqrt(rate / (1 - rate) / count));
  }
}

// Neighbours, and elements 8 and 1024 apart, are dropped independently of each other.
TEST(Dropout, ElementsAreIndependent) {
  const HostTensor ones = HostTensor::filled({DType::f32, {64, 1024}}, 1);
  const HostTensor y = evaluate(ops::kDropout, dropout_of(0.5), {ones, counter(0), counter(0)})[0];
  for (const int64_t distance : {1, 2, 8, 1024}) {
    double both = 0;
    const int64_t pairs = y.elements() - distance;
    for (int64_t i = 0; i < pairs; ++i) both += y.get_real(i) == 0 && y.get_real(i + distance) == 0;
    EXPECT_NEAR(both, 0.25 * static_cast<double>(pairs), 5 * std::sqrt(0.1875 * static_cast<double>(pairs)) * 1.5)
        << distance;
  }
}

TEST(Dropout, RateZeroChangesNothing) {
  std::mt19937_64 random(1);
  const HostTensor x = testing::random_tensor({DType::f64, {5, 7}}, -1, 1, random);
  EXPECT_EQ(evaluate(ops::kDropout, dropout_of(0), {x, counter(0), counter(0)})[0], x);
}

TEST(Dropout, MicrobatchesAreRowsOfTheBatch) {
  const HostTensor ones = HostTensor::filled({DType::f64, {8, 5, 3}}, 1);
  const HostTensor whole = evaluate(ops::kDropout, dropout_of(0.3), {ones, counter(2), counter(0)})[0];
  const HostTensor half = HostTensor::filled({DType::f64, {4, 5, 3}}, 1);
  const auto part = [&](int64_t row, int64_t step) {
    return evaluate(ops::kDropout, dropout_of(0.3), {half, counter(step), counter(row)})[0];
  };
  EXPECT_EQ(part(0, 2), whole.slice(std::vector<int64_t>{0, 0, 0}, {4, 5, 3}));
  EXPECT_EQ(part(4, 2), whole.slice(std::vector<int64_t>{4, 0, 0}, {4, 5, 3}));
  EXPECT_FALSE(part(0, 2) == part(4, 2));
  EXPECT_FALSE(part(0, 2) == part(0, 3));
}

TEST(Dropout, TheGradientHasTheSameMask) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {6, 5}}),
              step = b.input(InputKind::scalar, "step", {DType::s64, {}}),
              row = b.input(InputKind::scalar, "row", {DType::s64, {}});
  const Value y = ops::dropout(b, x, step, row, {.rate = 0.4, .seed = 1, .site = kDropoutSites});
  b.output(y, "y");
  b.output(gradients(b, ops::reduce_all(b, y), std::vector{x})[0], "dx");
  const HostTensor ones = HostTensor::filled({DType::f64, {6, 5}}, 1);
  const auto made = interpret(graph, std::vector{ones, counter(9), counter(3)});
  EXPECT_EQ(made[0], made[1]);
}

TEST(Dropout, RefusesRatesThatDropAll) {
  try {
    infer_types(ops::kDropout, {std::vector<TensorType>{{DType::f32, {4}}, {DType::s64, {}}, {DType::s64, {}}},
                                dropout_of(1)});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("below 1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tessera
