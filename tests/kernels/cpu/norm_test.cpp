#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/sum_of_squares.h"
#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

constexpr double kEpsilon = 1e-5;

struct NormWant {
  std::vector<double> y, mean, rstd, dx, dgamma, dbeta;
};

// Layer norm and its gradient by their definitions; with `rms` without the mean.
template <typename T, typename W>
NormWant norm_by_loops(int64_t rows, int64_t cols, const std::vector<T>& x,
                       const std::vector<W>& gamma, const std::vector<W>& beta,
                       const std::vector<T>& dy, bool rms) {
  NormWant want{{}, {}, {}, {}, std::vector<double>(cols, 0.0), std::vector<double>(cols, 0.0)};
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [&](const std::vector<T>& v, int64_t c) { return as_double(v[r * cols + c]); };
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < cols && !rms; ++c) mean += at(x, c) / cols;
    for (int64_t c = 0; c < cols; ++c) variance += (at(x, c) - mean) * (at(x, c) - mean) / cols;
    const double rstd = 1 / std::sqrt(variance + kEpsilon);
    double sum = 0, dot = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const double normal = (at(x, c) - mean) * rstd, g = at(dy, c) * as_double(gamma[c]);
      want.y.push_back(normal * as_double(gamma[c]) + (rms ? 0 : as_double(beta[c])));
      want.dgamma[c] += at(dy, c) * normal;
      want.dbeta[c] += at(dy, c);
      sum += rms ? 0 : g / cols;
      dot += g * normal / cols;
    }
    for (int64_t c = 0; c < cols; ++c) {
      const double normal = (at(x, c) - mean) * rstd;
      want.dx.push_back((at(dy, c) * as_double(gamma[c]) - sum - normal * dot) * rstd);
    }
    want.mean.push_back(mean);
    want.rstd.push_back(rstd);
  }
  return want;
}

template <typename T, typename W, typename G>
void check_norms(int64_t rows, int64_t cols) {
  using A = simd::Accumulator<T>;
  SCOPED_TRACE(testing::Message() << rows << " x " << cols);
  const auto x = random_values<T>(rows * cols, 1, -2, 3), dy = random_values<T>(rows * cols, 2);
  const auto gamma = random_values<W>(cols, 3, 0.5, 1.5), beta = random_values<W>(cols, 4);
  const double sums = kTolerance<G> * std::sqrt(static_cast<double>(rows));
  {
    const NormWant want = norm_by_loops(rows, cols, x, gamma, beta, dy, false);
    std::vector<A> mean = poisoned<A>(rows), rstd = poisoned<A>(rows);
    const auto y = same_with_any_threads([&] {
      auto result = poisoned<T>(rows * cols);
      layer_norm_forward(rows, cols, x.data(), gamma.data(), beta.data(), kEpsilon, result.data(),
                         mean.data(), rstd.data());
      return result;
    });
    expect_close(y, want.y, kTolerance<T>);
    expect_close(mean, want.mean, kTolerance<A>);
    expect_close(rstd, want.rstd, kTolerance<A>);
    auto dx = poisoned<T>(rows * cols);
    auto dbeta = poisoned<G>(cols);
    auto workspace = poisoned<char>(layer_norm_backward_workspace(rows, cols, sizeof(A)));
    const auto dgamma = same_with_any_threads([&] {
      auto result = poisoned<G>(cols);
      layer_norm_backward(rows, cols, dy.data(), x.data(), gamma.data(), mean.data(), rstd.data(),
                          dx.data(), result.data(), dbeta.data(), workspace.data());
      return result;
    });
    expect_close(dx, want.dx, kTolerance<T>, 2);
    expect_close(dgamma, want.dgamma, sums);
    expect_close(dbeta, want.dbeta, sums);
  }
  const NormWant want = norm_by_loops(rows, cols, x, gamma, beta, dy, true);
  std::vector<A> rstd = poisoned<A>(rows);
  auto y = poisoned<T>(rows * cols), dx = poisoned<T>(rows * cols);
  rms_norm_forward(rows, cols, x.data(), gamma.data(), kEpsilon, y.data(), rstd.data());
  expect_close(y, want.y, kTolerance<T>);
  expect_close(rstd, want.rstd, kTolerance<A>);
  auto workspace = poisoned<char>(rms_norm_backward_workspace(rows, cols, sizeof(A)));
  const auto dgamma = same_with_any_threads([&] {
    auto result = poisoned<G>(cols);
    rms_norm_backward(rows, cols, dy.data(), x.data(), gamma.data(), rstd.data(), dx.data(),
                      result.data(), workspace.data());
    return result;
  });
  expect_close(dx, want.dx, kTolerance<T>, 2);
  expect_close(dgamma, want.dgamma, sums);
}

template <typename T, typename W, typename G>
void check_norm_shapes() {
  for (const auto& [rows, cols] : {std::pair{1, 1}, {3, 7}, {5, 16}, {70, 33}, {130, 100}}) {
    if (cols == 1) continue;  // its variance is 0 and the gradient all rounding
    check_norms<T, W, G>(rows, cols);
  }
}

TEST(Norms, AgreeWithLoopsF32) { check_norm_shapes<float, float, float>(); }
TEST(Norms, AgreeWithLoopsF64) { check_norm_shapes<double, double, double>(); }
TEST(Norms, AgreeWithLoopsBf16) { check_norm_shapes<bfloat16, bfloat16, float>(); }
TEST(Norms, AgreeWithLoopsBf16AndWideWeights) { check_norm_shapes<bfloat16, float, float>(); }

template <typename T>
void check_squares(int64_t n) {
  const auto x = random_values<T>(n, 1);
  double want = 0;
  for (const T& v : x) want += as_double(v) * as_double(v);
  auto workspace = poisoned<char>(sum_of_squares_workspace(n));
  const auto got = same_with_any_threads(
      [&] { return std::vector<double>{sum_of_squares(n, x.data(), workspace.data())}; });
  EXPECT_NEAR(got[0], want, 1e-12 * (want + 1));
}

TEST(SumOfSquares, AgreesWithLoops) {
  for (int64_t n : {0, 1, 15, 16, 17, 1000, 100000}) {
    check_squares<float>(n);
    check_squares<double>(n);
    check_squares<bfloat16>(n);
  }
}

}  // namespace
}  // namespace tessera::cpu
