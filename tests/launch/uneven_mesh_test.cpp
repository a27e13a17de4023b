// Meshes that divide neither the widths nor the heads nor the vocabulary of a job: the losses of 20
// steps are those of one device, within 1e-10 in f64.
#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "tests/launch/loss_curve.h"

namespace tessera::test {
namespace {

void expect_like_one_device(const std::string& family, const std::vector<Layout>& layouts,
                            std::vector<std::string> sets) {
  const TinyJob tiny(family);
  sets.push_back("train.global_batch=30");
  sets.push_back("train.compute_dtype=f64");
  const Curve expected = train_on(tiny, kOneDevice, sets);
  ASSERT_EQ(expected.losses.size(), 20u);
  EXPECT_LT(expected.losses.back(), 4) << family;
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(cat(family, " on ", layout.sharding, " ", layout.mesh, " ", join(sets)));
    expect_near(expected, train_on(tiny, layout, sets), 1e-10);
  }
}

// Embed 32, 4 heads, mlp 128, vocabulary 384.
const std::vector<Layout> kLayouts = {
    {"data3", "data", "data=3", 3},        {"fsdp3", "fsdp", "data=3", 3},
    {"zero1_3", "zero1", "data=3", 3},     {"tensor3", "tensor", "data=1,model=3", 3},
    {"fsdp5", "fsdp", "data=5", 5},        {"tensor5", "tensor", "data=1,model=5", 5},
    {"tensor2x3", "tensor", "data=2,model=3", 6}, {"both3x2", "2d", "data=3,model=2", 6},
    {"both2x3", "2d", "data=2,model=3", 6}, {"sequence2x3", "tensor_sequence", "data=2,model=3", 6},
};

TEST(UnevenMeshes, Gpt) { expect_like_one_device("gpt2", kLayouts, {}); }
TEST(UnevenMeshes, Llama) { expect_like_one_device("llama", kLayouts, {}); }
TEST(UnevenMeshes, WithoutVocabularyPadding) {
  expect_like_one_device("gpt2",
                         {{"tensor2", "tensor", "data=1,model=2", 2},
                          {"tensor3", "tensor", "data=1,model=3", 3},
                          {"both2x3", "2d", "data=2,model=3", 6}},
                         {"model.vocab_padding=1"});
}
TEST(UnevenMeshes, WithAccumulation) {
  expect_like_one_device("gpt2", {kLayouts[1], kLayouts[6]}, {"train.accumulate=5"});
}

}  // namespace
}  // namespace tessera::test
