#include "core/ops/custom_call.h"

#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "core/ops/contraction.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

const std::vector<TensorType> kMatrixTypes{{DType::f32, {8, 16}}, {DType::f32, {16, 32}}};
const std::vector<TensorType> kProduct{{DType::f32, {8, 32}}};

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(FactorRuleText, ReadsWhatRulesPrint) {
  const Attributes dot{{Attr::lhs_contracting, Ints{1}},
                       {Attr::rhs_contracting, Ints{0}},
                       {Attr::lhs_batch, Ints{}},
                       {Attr::rhs_batch, Ints{}}};
  const FactorRule rule = factor_rule(ops::kDotGeneral, {kMatrixTypes, dot}, kProduct);
  const FactorRule read = ops::parse_factor_rule(cat(rule), kMatrixTypes, kProduct);
  EXPECT_EQ(read.factors.size(), 3u);
  EXPECT_EQ(
      ops::parse_factor_rule("([i, k], [k, j]) -> ([i, j]) {k=reduction}", kMatrixTypes, kProduct)
          .operands,
      (std::vector<TensorFactors>{{{0}, {1}}, {{1}, {2}}}));
  const FactorRule heads =
      ops::parse_factor_rule("([i, (h d)]) -> ([i, h, d, 1]) {d=need_replication}",
                             std::vector<TensorType>{{DType::f32, {4, 6}}},
                             std::vector<TensorType>{{DType::f32, {4, 2, 3, 1}}});
  EXPECT_EQ(heads.factors[2].kind, FactorKind::need_replication);
  EXPECT_EQ(heads.factors[1].size, 2);
}

TEST(FactorRuleText, ErrorsNameTextAndShapes) {
  EXPECT_EQ(error_of([] { ops::parse_factor_rule("([i, k]) -> ([i, j])", kMatrixTypes, kProduct); }),
            "custom_call: factor rule \"([i, k]) -> ([i, j])\" at \" -> ([i, j])\": expected 2 "
            "tensors for "
            "(f32[8,16], f32[16,32]) -> (f32[8,32])");
  EXPECT_NE(error_of([] {
              ops::parse_factor_rule("([i, k], [j, k]) -> ([i, j])", kMatrixTypes, kProduct);
            }).find("multiply to"),
            std::string::npos);
}

TEST(CustomCall, RunsARegisteredFunction) {
  ops::register_custom_call("test.double", [](const OpCall&, std::span<const HostTensor* const> x,
                                              std::span<HostTensor> y) {
    for (int64_t i = 0; i < y[0].elements(); ++i) y[0].set_real(i, 2 * x[0]->get_real(i));
  });
  const Attributes attributes{{Attr::call_target, std::string("test.double")},
                              {Attr::result_types, std::string("f32[2]")}};
  const HostTensor x = HostTensor::filled({DType::f32, {2}}, 3);
  EXPECT_EQ(testing::evaluate(ops::kCustomCall, attributes, {x})[0],
            HostTensor::filled({DType::f32, {2}}, 6));
}

TEST(CustomCall, ErrorsNameTheKnownTargets) {
  const Attributes attributes{{Attr::call_target, std::string("nobody")},
                              {Attr::result_types, std::string("f32[2]")}};
  const std::string text = error_of([&] {
    testing::evaluate(ops::kCustomCall, attributes, {HostTensor::filled({DType::f32, {2}}, 3)});
  });
  EXPECT_NE(text.find("no function \"nobody\""), std::string::npos) << text;
  EXPECT_NE(text.find("identity"), std::string::npos) << text;
}

}  // namespace
}  // namespace tessera
