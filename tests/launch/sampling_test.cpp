#include "launch/generate/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace tessera {
namespace {

TEST(Sampling, GreedyTakesTheFirstLargest) {
  const std::vector<float> logits = {0, 3, 1, 3};
  EXPECT_EQ(sample_token(logits, {.temperature = 0}, 0.99), 1);
}

TEST(Sampling, TopKLeavesOnlyTheLikeliest) {
  const std::vector<float> logits = {0, 3, 1, 2};
  for (double uniform : {0.0, 0.3, 0.6, 0.999}) {
    const int64_t token = sample_token(logits, {.temperature = 10, .top_k = 2}, uniform);
    EXPECT_TRUE(token == 1 || token == 3);
  }
}

TEST(Sampling, FollowsTheDistribution) {
  const std::vector<float> logits = {std::log(1.0f), std::log(3.0f), -std::numeric_limits<float>::infinity()};
  int ones = 0;
  for (int i = 0; i < 1000; ++i) ones += sample_token(logits, {}, (i + 0.5) / 1000) == 1;
  EXPECT_NEAR(ones, 750, 1);
}

TEST(Sampling, TemperatureSharpens) {
  const std::vector<float> logits = {0, 1};
  auto share = [&](double temperature) {
    int ones = 0;
    for (int i = 0; i < 1000; ++i)
      ones += sample_token(logits, {.temperature = temperature}, (i + 0.5) / 1000) == 1;
    return ones;
  };
  EXPECT_GT(share(0.5), share(1.0));
  EXPECT_GT(share(1.0), share(2.0));
}

}  // namespace
}  // namespace tessera
