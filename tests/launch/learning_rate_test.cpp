#include "launch/trainer/learning_rate.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(LearningRate, WarmupRisesToThePeak) {
  const config::ScheduleConfig schedule{.kind = config::ScheduleKind::constant, .learning_rate = 1, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 3), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 4), 1);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1000), 1);
}

TEST(LearningRate, CosineEndsAtItsFraction) {
  const config::ScheduleConfig schedule{.kind = config::ScheduleKind::cosine, .learning_rate = 2,
                                        .warmup_steps = 10, .decay_steps = 110, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 10), 2);
  EXPECT_NEAR(learning_rate(schedule, 60), 1.1, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 110), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 500), 0.2, 1e-12);
}

TEST(LearningRate, RsqrtFallsWithTheRoot) {
  const config::ScheduleConfig schedule{.kind = config::ScheduleKind::rsqrt, .learning_rate = 1, .warmup_steps = 100};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 100), 1);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 400), 0.5);
}

}  // namespace
}  // namespace tessera
