#include "core/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ops/elementwise.h"
#include "core/ops/loss.h"
#include "tests/ops/sample_inputs.h"

namespace tessera {
namespace {

using testing::evaluate;

// The three ops with what stands between them.
TEST(CrossEntropyWithGrad, IsItsParts) {
  std::mt19937_64 rng(3);
  for (const OpSample& sample : ops::kCrossEntropyWithGrad.samples()) {
    const auto x = testing::random_operands(sample, rng);
    const auto made = evaluate(ops::kCrossEntropyWithGrad, sample.attributes, x);
    const HostTensor max = evaluate(ops::kLogitsMax, sample.attributes, {x[0]})[0];
    const auto sums = evaluate(ops::kLogitsSum, sample.attributes, {x[0], max, x[1]});
    HostTensor d_sum = sums[0];
    for (int64_t r = 0; r < d_sum.elements(); ++r) {
      const double sum = sums[0].get_real(r),
                   slope = x.size() > 4 ? x[4].get_real(r) * (max.get_real(r) + std::log(sum)) : 0;
      d_sum.set_real(r, (x[3].get_real(r) + slope) / sum);
    }
    const HostTensor dlogits =
        evaluate(ops::kLogitsSumGrad, sample.attributes, {x[0], max, x[1], d_sum, x[2]})[0];
    EXPECT_EQ(made[0], max);
    EXPECT_EQ(made[1], sums[0]);
    EXPECT_EQ(made[2], sums[1]);
    EXPECT_LE(max_relative_error(made[3], dlogits, 1e-3), x[0].dtype() == DType::bf16 ? 1e-2 : 1e-12);
  }
}

TEST(CrossEntropyWithGrad, RefusesWhatDoesNotFit) {
  const auto refusal = [](std::vector<TensorType> operands) -> std::string {
    try {
      infer_types(ops::kCrossEntropyWithGrad, {operands, {{Attr::valid_size, int64_t{8}}}});
    } catch (const UserError& error) {
      return error.what();
    }
    return "none";
  };
  const TensorType logits{DType::bf16, {3, 8}}, ids{DType::s32, {3}}, row{DType::f32, {3}};
  EXPECT_EQ(refusal({logits, ids, row, row}), "none");
  EXPECT_EQ(refusal({logits, ids, row, row, row}), "none");
  EXPECT_NE(refusal({logits, ids, row}).find("cross_entropy_with_grad"), std::string::npos);
  EXPECT_NE(refusal({logits, row, row, row}).find("targets"), std::string::npos);
  EXPECT_NE(refusal({logits, ids, row, {DType::bf16, {3}}}).find("operand 3"), std::string::npos);
}

}  // namespace
}  // namespace tessera
