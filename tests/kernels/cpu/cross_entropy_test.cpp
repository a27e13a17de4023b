#include "kernels/cpu/cross_entropy.h"

#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

template <typename T, typename Id>
void check_shard(const LogitsShape& s) {
  using A = simd::Accumulator<T>;
  SCOPED_TRACE(testing::Message() << s.rows << " x " << s.columns << " from " << s.start);
  auto logits = random_values<T>(s.rows * s.columns, 1, -5, 5);
  const int64_t valid = s.valid_columns();
  // What is in the padding must not matter.
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = valid; c < s.columns; ++c) logits[r * s.columns + c] = T(NAN);
  }
  std::vector<Id> targets;
  for (int64_t r = 0; r < s.rows; ++r)
    targets.push_back(static_cast<Id>(s.start - 2 + r * 7 % (s.columns + 4)));
  const auto d_sum = random_values<A>(s.rows, 2), d_target = random_values<A>(s.rows, 3);

  std::vector<double> want_max, want_sum, want_target, want_grad;
  for (int64_t r = 0; r < s.rows; ++r) {
    double top = -INFINITY, sum = 0, at_target = 0;
    for (int64_t c = 0; c < valid; ++c) top = std::max(top, as_double(logits[r * s.columns + c]));
    for (int64_t c = 0; c < s.columns; ++c) {
      const double logit = as_double(logits[r * s.columns + c]);
      const bool hit = c < valid && targets[r] == s.start + c;
      if (c < valid) sum += std::exp(logit - top);
      if (hit) at_target = logit;
      want_grad.push_back(c < valid ? std::exp(logit - top) * d_sum[r] + (hit ? d_target[r] : 0)
                                    : 0);
    }
    want_max.push_back(top);
    want_sum.push_back(sum);
    want_target.push_back(at_target);
  }

  const auto maximum = same_with_any_threads([&] {
    auto result = poisoned<A>(s.rows);
    logits_max(s, logits.data(), result.data());
    return result;
  });
  expect_close(maximum, want_max, 0);
  auto target_logit = poisoned<A>(s.rows);
  const auto sum = same_with_any_threads([&] {
    auto result = poisoned<A>(s.rows);
    logits_sum(s, logits.data(), maximum.data(), targets.data(), result.data(),
               target_logit.data());
    return result;
  });
  expect_close(sum, want_sum, kTolerance<A>);
  expect_close(target_logit, want_target, 0);
  auto grad = logits;  // in place
  logits_sum_grad(s, grad.data(), maximum.data(), targets.data(), d_sum.data(), d_target.data(),
                  grad.data());
  expect_close(grad, want_grad, kTolerance<T>);
}

// One pass gives the bits of the three.
template <typename T, typename Id>
void check_all_at_once(const LogitsShape& s, bool has_slope) {
  using A = simd::Accumulator<T>;
  const auto logits = random_values<T>(s.rows * s.columns, 1, -5, 5);
  const auto d_lse = random_values<A>(s.rows, 2), d_target = random_values<A>(s.rows, 3),
             slope = random_values<A>(s.rows, 4);
  std::vector<Id> targets;
  for (int64_t r = 0; r < s.rows; ++r) targets.push_back(static_cast<Id>(r * 7 % (s.columns + 4) - 2));
  auto maximum = poisoned<A>(s.rows), sum = maximum, at_target = maximum, d_sum = maximum;
  logits_max(s, logits.data(), maximum.data());
  logits_sum(s, logits.data(), maximum.data(), targets.data(), sum.data(), at_target.data());
  for (int64_t r = 0; r < s.rows; ++r)
    d_sum[r] = (d_lse[r] + (has_slope ? slope[r] * (maximum[r] + std::log(sum[r])) : A(0))) / sum[r];
  auto want = poisoned<T>(s.rows * s.columns);
  logits_sum_grad(s, logits.data(), maximum.data(), targets.data(), d_sum.data(), d_target.data(),
                  want.data());

  const auto grad = same_with_any_threads([&] {
    auto result = logits;  // in place
    auto maximum_of = poisoned<A>(s.rows), sum_of = maximum_of, at_target_of = maximum_of;
    cross_entropy_with_grad(s, result.data(), targets.data(),
                            {d_target.data(), d_lse.data(), has_slope ? slope.data() : nullptr},
                            {maximum_of.data(), sum_of.data(), at_target_of.data()}, result.data());
    EXPECT_EQ(maximum_of, maximum);
    EXPECT_EQ(sum_of, sum);
    EXPECT_EQ(at_target_of, at_target);
    return result;
  });
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(as_double(grad[i]), as_double(want[i]), kTolerance<T> * std::abs(as_double(want[i])));
}

TEST(CrossEntropy, AllAtOnce) {
  for (const bool has_slope : {false, true}) {
    check_all_at_once<float, int32_t>({5, 67, 0, 67}, has_slope);
    check_all_at_once<bfloat16, int64_t>({3, 96, 0, 90}, has_slope);
    check_all_at_once<double, int32_t>({4, 33, 0, 30}, has_slope);
  }
}

template <typename T, typename Id>
void check_shards() {
  check_shard<T, Id>({5, 1, 0, 1});
  check_shard<T, Id>({9, 37, 0, 30});
  check_shard<T, Id>({20, 150, 0, 150});
  check_shard<T, Id>({6, 64, 128, 150});
  check_shard<T, Id>({6, 64, 128, 100});  // padding alone
}

TEST(CrossEntropy, AgreesWithLoopsF32) { check_shards<float, int32_t>(); }
TEST(CrossEntropy, AgreesWithLoopsF64) { check_shards<double, int64_t>(); }
TEST(CrossEntropy, AgreesWithLoopsBf16) { check_shards<bfloat16, int32_t>(); }

}  // namespace
}  // namespace tessera::cpu
