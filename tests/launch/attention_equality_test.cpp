// Windows, positions by distance and separated documents: the same losses and gradient norms on any
// mesh, within 1e-10 in f64, with the kernels and messages of a real run.
#include <gtest/gtest.h>

#include <map>

#include "core/base/strings.h"
#include "tests/launch/loss_curve.h"

namespace tessera::test {
namespace {

struct Feature {
  const char* name;
  const char* family;
  std::vector<std::string> sets;
};
// A document is a word: two to six tokens.
const std::string kWords = "data.document_separator=\" \"";
const Feature kFeatures[] = {
    {"window", "gpt2", {"model.attention_window=5"}},
    {"some_layers_window", "llama", {"model.attention_window=3", "model.full_attention_interval=2"}},
    {"documents", "gpt2", {kWords, "data.separate_documents=true"}},
    {"alibi", "llama", {"model.position=alibi"}},
    {"relative", "gpt2", {"model.position=relative", "model.relative_buckets=6", "model.relative_max_distance=11"}},
    {"all", "llama", {kWords, "data.separate_documents=true", "model.position=relative", "model.attention_window=7"}},
};

Curve run(const Feature& feature, const Layout& layout, std::vector<std::string> more) {
  std::vector<std::string> sets = feature.sets;
  for (const char* common : {"train.compute_dtype=f64", "train.steps=8"}) sets.push_back(common);
  sets.insert(sets.end(), more.begin(), more.end());
  return train_on(TinyJob(feature.family), layout, sets);
}

class AttentionEquality : public testing::TestWithParam<Feature> {};

TEST_P(AttentionEquality, OnAnyMesh) {
  const Curve one = run(GetParam(), kOneDevice, {});
  EXPECT_LT(one.losses.back(), one.losses.front());
  const Layout shipped[] = {{"model2", "tensor", "data=1,model=2", 2},
                            {"tensor_sequence2x2", "tensor_sequence", "data=2,model=2", 4}};
  for (const Layout& layout : shipped) {
    SCOPED_TRACE(layout.name);
    expect_near(one, run(GetParam(), layout, {}), 1e-10);
  }
  SCOPED_TRACE("length over 4 devices");
  expect_near(one,
              run(GetParam(), {"length4", "", "", 4},
                  {"sharding={mesh {name: \"line\" size: 4} activation_rules {logical: \"length\" axes: \"line\"}}"}),
              1e-10);
}

TEST(AttentionFeatures, EachChangesTheLoss) {
  const std::vector<std::string> one_step = {"train.steps=1"};
  for (const Feature& feature : kFeatures) {
    std::vector<std::string> plain;
    for (const std::string& text : feature.sets)
      if (text == kWords) plain.push_back(text);
    const Curve without = run({"", feature.family, plain}, kOneDevice, one_step);
    EXPECT_NE(run(feature, kOneDevice, one_step).losses[0], without.losses[0]) << feature.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Features, AttentionEquality, testing::ValuesIn(kFeatures),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tessera::test
