#include "kernels/cpu/adamw.h"
#include "kernels/cpu/rotary.h"
#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

template <typename T>
void check_rotary(const RotaryShape& s) {
  const int64_t size = s.batch * s.length * s.heads * s.head_dim, half = s.head_dim / 2;
  const auto x = random_values<T>(size, 1);
  std::vector<double> want(size);
  for (int64_t row = 0; row < s.batch * s.length * s.heads; ++row) {
    const int64_t position = s.start + row / s.heads % s.length;
    for (int64_t i = 0; i < half; ++i) {
      const double angle = (s.inverse ? -1 : 1) * static_cast<double>(position) *
                           std::pow(s.theta, -2.0 * i / static_cast<double>(s.head_dim));
      const double a = as_double(x[row * s.head_dim + i]),
                   b = as_double(x[row * s.head_dim + half + i]);
      want[row * s.head_dim + i] = a * std::cos(angle) - b * std::sin(angle);
      want[row * s.head_dim + half + i] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
  const auto y = same_with_any_threads([&] {
    auto result = poisoned<T>(size);
    rotary(s, x.data(), result.data());
    return result;
  });
  expect_close(y, want, kTolerance<T>);
  auto in_place = x;
  rotary(s, in_place.data(), in_place.data());
  EXPECT_TRUE(same_bits(in_place, y));
}

TEST(Rotary, AgreesWithLoops) {
  for (const RotaryShape& s :
       {RotaryShape{2, 9, 3, 10, 1e4, 0, false}, {1, 5, 2, 64, 5e5, 100000, true}}) {
    check_rotary<float>(s);
    check_rotary<double>(s);
    check_rotary<bfloat16>(s);
  }
}

template <typename T>
void check_adamw(int64_t n) {
  const AdamWStep step{3e-3, 0.9, 0.95, 1e-8, 0.5, 1 - 0.9 * 0.9, 1 - 0.95 * 0.95};
  constexpr double kDecay = 0.1;
  const auto param = random_values<T>(n, 1), m = random_values<T>(n, 2),
             grad = random_values<T>(n, 4);
  const auto v = random_values<T>(n, 3, 0, 1);
  std::vector<double> want_param, want_m, want_v;
  for (int64_t i = 0; i < n; ++i) {
    const double g = grad[i] * step.grad_scale;
    want_m.push_back(step.beta1 * m[i] + (1 - step.beta1) * g);
    want_v.push_back(step.beta2 * v[i] + (1 - step.beta2) * g * g);
    const double root = std::sqrt(want_v.back() / step.bias_correction2) + step.epsilon;
    want_param.push_back(param[i] -
                         step.learning_rate * (want_m.back() / step.bias_correction1 / root +
                                               kDecay * param[i]));
  }
  auto new_m = m, new_v = v;
  const auto updated = same_with_any_threads([&] {
    auto p = param;
    new_m = m;
    new_v = v;
    // In two tensors: the pieces of both stand in one loop.
    const int64_t cut = n / 3;
    const auto part = [&](int64_t at, int64_t count) {
      return AdamWTensor<T>{count,          p.data() + at,     new_m.data() + at, new_v.data() + at, grad.data() + at,
                            p.data() + at, new_m.data() + at, new_v.data() + at, kDecay};
    };
    const AdamWTensor<T> tensors[] = {part(0, cut), part(cut, n - cut)};
    adamw<T, T, T>(step, tensors);
    return p;
  });
  expect_close(updated, want_param, kTolerance<T>, 0.1);
  expect_close(new_m, want_m, kTolerance<T>, 0.1);
  expect_close(new_v, want_v, kTolerance<T>, 0.1);
}

TEST(AdamW, AgreesWithLoops) {
  for (int64_t n : {1, 16, 37, 70000}) {
    check_adamw<float>(n);
    check_adamw<double>(n);
  }
}

}  // namespace
}  // namespace tessera::cpu
