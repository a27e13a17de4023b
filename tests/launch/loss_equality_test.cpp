// The same job on any mesh: 20 steps of the job of tiny_job.h give the same losses and gradient
// norms as on one device, within 1e-10 relative in f64 and 1e-5 in f32.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/base/strings.h"
#include "tests/launch/loss_curve.h"

namespace tessera::test {
namespace {

constexpr Layout kLayouts[] = {
    {"data2", "data", "data=2", 2},
    {"model2", "tensor", "data=1,model=2", 2},
    {"fsdp2", "fsdp", "data=2", 2},
    {"zero1_2", "zero1", "data=2", 2},
    {"tensor2x2", "tensor", "data=2,model=2", 4},
    {"tensor_sequence2x2", "tensor_sequence", "data=2,model=2", 4},
    {"hsdp2x2", "hsdp", "host=2,data=2", 4},
    {"both2x2", "2d", "data=2,model=2", 4},
    {"both4x2", "2d", "data=4,model=2", 8},
    {"tensor2x4", "tensor", "data=2,model=4", 8},
};

Curve run(const TinyJob& tiny, const Layout& layout, std::vector<std::string> sets) {
  if (layout.devices == 8) sets.push_back("model.kv_heads=4");  // `model` may be 4 wide
  return train_on(tiny, layout, std::move(sets));
}

// The curve of one device without accumulation or rematerialisation, computed once a precision.
const Curve& reference(const std::string& family, const std::string& dtype, bool wide) {
  static std::map<std::string, Curve> known;
  const std::string key = cat(family, "/", dtype, "/", wide);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  std::vector<std::string> sets = {"train.compute_dtype=" + dtype};
  if (wide) sets.push_back("model.kv_heads=4");
  return known[key] = run(TinyJob(family), kOneDevice, sets);
}

void expect_equal(const std::string& family, const std::string& dtype, const Layout& layout,
                  std::vector<std::string> sets, double tolerance) {
  SCOPED_TRACE(testing::Message() << family << " " << dtype << " on " << layout.name << " " << join(sets));
  sets.push_back("train.compute_dtype=" + dtype);
  expect_near(reference(family, dtype, layout.devices == 8), run(TinyJob(family), layout, sets), tolerance);
}

class LossEquality : public testing::TestWithParam<Layout> {};

TEST_P(LossEquality, GptInF64) { expect_equal("gpt2", "f64", GetParam(), {}, 1e-10); }

TEST_P(LossEquality, LlamaInF64) { expect_equal("llama", "f64", GetParam(), {}, 1e-10); }

TEST_P(LossEquality, GptInF32) { expect_equal("gpt2", "f32", GetParam(), {}, 1e-5); }

TEST_P(LossEquality, LlamaInF32) { expect_equal("llama", "f32", GetParam(), {}, 1e-5); }

TEST_P(LossEquality, WithAccumulation) {
  expect_equal("gpt2", "f64", GetParam(), {"train.accumulate=2"}, 1e-10);
  expect_equal("llama", "f32", GetParam(), {"train.accumulate=2"}, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Layouts, LossEquality, testing::ValuesIn(kLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(LossEqualityOnOneDevice, TheLossFalls) {
  for (const char* family : {"gpt2", "llama"}) {
    const Curve& curve = reference(family, "f64", false);
    ASSERT_EQ(curve.losses.size(), 20u) << family;
    EXPECT_NEAR(curve.losses.front(), std::log(259.0), 0.1) << family;
    EXPECT_LT(curve.losses.back(), 3.2) << family;
  }
}

TEST(LossEqualityOnOneDevice, AccumulationAndRematerialisation) {
  for (const char* family : {"gpt2", "llama"})
    for (const char* accumulate : {"train.accumulate=1", "train.accumulate=2", "train.accumulate=8"})
      for (const char* remat : {"train.remat=none", "train.remat=dots", "train.remat=full"})
        expect_equal(family, "f64", kOneDevice, {accumulate, remat}, 1e-10);
}

TEST(LossEqualityOnMeshes, Rematerialisation) {
  for (const Layout& layout : {kLayouts[2], kLayouts[5], kLayouts[7]})
    for (const char* remat : {"train.remat=dots", "train.remat=full"})
      expect_equal("gpt2", "f64", layout, {remat, "train.accumulate=2"}, 1e-10);
}

TEST(LossEqualityOnMeshes, ZLossAndUnclippedGradients) {
  const std::vector<std::string> sets = {"train.z_loss=1e-3", "train.clip_norm=0", "train.compute_dtype=f64"};
  const Curve expected = run(TinyJob("llama"), kOneDevice, sets);
  for (const Layout& layout : {kLayouts[4], kLayouts[7]})
    expect_near(expected, run(TinyJob("llama"), layout, sets), 1e-10);
}

TEST(LossEqualityOnMeshes, Dropout) {
  std::vector<std::string> sets = {"model.dropout=0.2", "train.compute_dtype=f64"};
  const Curve expected = run(TinyJob("gpt2"), kOneDevice, sets);
  EXPECT_GT(std::abs(expected.losses.back() - reference("gpt2", "f64", false).losses.back()), 1e-3);
  sets.insert(sets.end(), {"train.accumulate=2", "train.remat=full"});
  for (const Layout& layout : {kOneDevice, kLayouts[0], kLayouts[2], kLayouts[5], kLayouts[7]})
    expect_near(expected, run(TinyJob("gpt2"), layout, sets), 1e-10);
}

// The same draws on every mesh: what differs is the order of f32 sums before the rounding.
TEST(LossEqualityOnMeshes, StatesInBf16) {
  const std::vector<std::string> sets = {"train.parameter_dtype=bf16", "optimizer.moment_dtype=bf16"};
  const Curve expected = run(TinyJob("gpt2"), kOneDevice, sets);
  EXPECT_LT(expected.losses.back(), 3.3);
  for (const Layout& layout : {kLayouts[0], kLayouts[2], kLayouts[4]})
    expect_near(expected, run(TinyJob("gpt2"), layout, sets), 2e-3);
}

// bf16 keeps 8 bits, so 20 steps drift; 2 % of the loss is what this job shows, with room.
TEST(LossEqualityOnMeshes, Bf16StaysNearF32) {
  for (const char* family : {"gpt2", "llama"}) {
    const Curve expected = reference(family, "f32", false);
    for (const Layout& layout : {kOneDevice, kLayouts[2], kLayouts[4]}) {
      SCOPED_TRACE(testing::Message() << family << " on " << layout.name);
      const Curve curve = run(TinyJob(family), layout, {"train.compute_dtype=bf16"});
      ASSERT_EQ(curve.losses.size(), expected.losses.size());
      for (size_t i = 0; i < curve.losses.size(); ++i)
        EXPECT_NEAR(curve.losses[i], expected.losses[i], 0.02 * expected.losses[i]) << "step " << i + 1;
    }
  }
}

}  // namespace
}  // namespace tessera::test
