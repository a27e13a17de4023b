#include "kernels/cpu/tile_program.h"

#include <numbers>

#include "tests/kernels/cpu/kernel_testing.h"

namespace tessera::cpu {
namespace {

std::vector<float> apply_unary(TileOp op, const std::vector<float>& x) {
  TileProgram program({static_cast<int64_t>(x.size())});
  const int in = program.input(DType::f32, {1}, 0);
  program.output(program.apply(op, DType::f32, {{in}}));
  program.finish();
  auto out = poisoned<float>(static_cast<int64_t>(x.size()));
  const void* inputs[] = {x.data()};
  void* outputs[] = {out.data()};
  program.run(inputs, outputs);
  return out;
}

// Distance in units in the last place of `want`.
double ulps(float got, double want) {
  const float rounded = static_cast<float>(want);
  if (got == rounded || (std::isnan(got) && std::isnan(rounded))) return 0;
  const float next = std::nextafter(std::abs(rounded), INFINITY);
  return std::abs(static_cast<double>(got) - want) / static_cast<double>(next - std::abs(rounded));
}

// Every exponent and some hundred mantissas each, both signs, and the special values.
std::vector<float> all_magnitudes() {
  std::vector<float> values = {0.0f,   -0.0f,  INFINITY, -INFINITY, NAN,
                               88.72f, 88.73f, -87.4f,   -103.9f};
  std::mt19937 generator(7);
  for (uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (int i = 0; i < 200; ++i) {
      const uint32_t bits = (exponent << 23) | (generator() & 0x807fffffu);
      values.push_back(std::bit_cast<float>(bits));
    }
  }
  for (double x = -10; x < 10; x += 1.0 / 4096) values.push_back(static_cast<float>(x));
  return values;
}

void check_ulps(TileOp op, double (*exact)(double), double most) {
  const std::vector<float> x = all_magnitudes(), y = apply_unary(op, x);
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_LE(ulps(y[i], exact(static_cast<double>(x[i]))), most)
        << "at " << x[i] << " got " << y[i] << " want " << exact(x[i]);
    if (x[i] == 0) {
      ASSERT_EQ(std::signbit(y[i]), std::signbit(exact(static_cast<double>(x[i])))) << "at " << x[i];
    }
  }
}

TEST(VectorMath, Exponential) {
  check_ulps(
      TileOp::exponential, [](double x) { return std::exp(x); }, 1.5);
}
TEST(VectorMath, Log) {
  check_ulps(
      TileOp::log, [](double x) { return std::log(x); }, 1.5);
}
TEST(VectorMath, Tanh) {
  check_ulps(
      TileOp::tanh, [](double x) { return std::tanh(x); }, 2);
}
TEST(VectorMath, Erf) {
  check_ulps(
      TileOp::erf, [](double x) { return std::erf(x); }, 2);
}
TEST(VectorMath, Logistic) {
  check_ulps(
      TileOp::logistic, [](double x) { return 1 / (1 + std::exp(-x)); }, 2.5);
}
TEST(VectorMath, Sqrt) {
  check_ulps(
      TileOp::sqrt, [](double x) { return std::sqrt(x); }, 0.5);
}
TEST(VectorMath, Rsqrt) {
  check_ulps(
      TileOp::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 1.5);
}

double gelu_exact(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
double gelu_tanh_exact(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

// gelu and its gradient, the latter against a central difference in double.
template <typename T>
void check_gelu(DType dtype, TileOp op, TileOp grad, double (*exact)(double)) {
  const auto x = random_values<T>(3000, 1, -6, 6), dy = random_values<T>(3000, 2);
  TileProgram program({3000});
  const int in = program.input(dtype, {1}, 0), cotangent = program.input(dtype, {1}, 1);
  program.output(program.apply(op, dtype, {{in}}));
  program.output(program.apply(grad, dtype, {{in, cotangent}}));
  program.finish();
  auto y = poisoned<T>(3000), dx = poisoned<T>(3000);
  const void* inputs[] = {x.data(), dy.data()};
  void* outputs[] = {y.data(), dx.data()};
  program.run(inputs, outputs);
  std::vector<double> want_y, want_dx;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = as_double(x[i]), h = 1e-4;
    want_y.push_back(exact(v));
    want_dx.push_back(as_double(dy[i]) * (exact(v + h) - exact(v - h)) / (2 * h));
  }
  expect_close(y, want_y, std::max(kTolerance<T> / 10, 1e-14), 1);
  expect_close(dx, want_dx, std::max(kTolerance<T>, 1e-7), 1);
}

TEST(TileProgram, Gelu) {
  check_gelu<float>(DType::f32, TileOp::gelu, TileOp::gelu_grad, gelu_exact);
  check_gelu<float>(DType::f32, TileOp::gelu_tanh, TileOp::gelu_tanh_grad, gelu_tanh_exact);
  check_gelu<double>(DType::f64, TileOp::gelu, TileOp::gelu_grad, gelu_exact);
  check_gelu<double>(DType::f64, TileOp::gelu_tanh, TileOp::gelu_tanh_grad, gelu_tanh_exact);
}

// (x + bias) * scale per row, where x > 0, else constant; on odd sizes and any number of threads.
template <typename T>
void check_chain(DType dtype, int64_t rows, int64_t cols) {
  const auto x = random_values<T>(rows * cols, 1), bias = random_values<T>(cols, 2);
  const auto scale = random_values<T>(rows, 3);
  const T other(0.25f);
  TileProgram program({rows, cols});
  const int in = program.input(dtype, {cols, 1}, 0);
  const int sum = program.apply(TileOp::add, dtype, {{in, program.input(dtype, {0, 1}, 1)}});
  const int scaled =
      program.apply(TileOp::multiply, dtype, {{sum, program.input(dtype, {1, 0}, 2)}});
  const T zero(0.0f);
  const int positive =
      program.apply(TileOp::gt, DType::pred, {{in, program.constant(dtype, &zero)}});
  program.output(
      program.apply(TileOp::select, dtype, {{positive, scaled, program.constant(dtype, &other)}}));
  program.output(positive);
  program.output(program.apply(TileOp::convert, DType::s32, {{scaled}}));
  program.finish();
  std::vector<char> predicate(rows * cols, 7);
  std::vector<int32_t> whole(rows * cols, -77);
  const auto y = same_with_any_threads([&] {
    auto result = poisoned<T>(rows * cols);
    const void* inputs[] = {x.data(), bias.data(), scale.data()};
    void* outputs[] = {result.data(), predicate.data(), whole.data()};
    program.run(inputs, outputs);
    return result;
  });
  for (int64_t i = 0; i < rows * cols; ++i) {
    const T summed = T(x[i] + bias[i % cols]), product = T(summed * scale[i / cols]);
    const bool above = x[i] > zero;
    ASSERT_EQ(as_double(y[i]), as_double(above ? product : other)) << i;
    ASSERT_EQ(predicate[i], above);
    ASSERT_EQ(whole[i], static_cast<int32_t>(as_double(product)));
  }
}

TEST(TileProgram, ChainsWithBroadcasts) {
  for (const auto& [rows, cols] : {std::pair{1, 1}, {3, 5}, {7, 100}, {40, 1024}, {1000, 33}}) {
    check_chain<float>(DType::f32, rows, cols);
    check_chain<double>(DType::f64, rows, cols);
    check_chain<bfloat16>(DType::bf16, rows, cols);
  }
}

// Result 0 lies over operand 0, which result 1 needs too.
TEST(TileProgram, OutputOverInput) {
  std::vector<float> x = random_values<float>(1000, 1), before = x, twice(1000);
  TileProgram program({1000});
  const int in = program.input(DType::f32, {1}, 0);
  program.output(program.apply(TileOp::negate, DType::f32, {{in}}));
  program.output(program.apply(TileOp::add, DType::f32, {{in, in}}));
  program.finish();
  const void* inputs[] = {x.data()};
  void* outputs[] = {x.data(), twice.data()};
  program.run(inputs, outputs);
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(x[i], -before[i]);
    ASSERT_EQ(twice[i], before[i] + before[i]);
  }
}

TEST(TileProgram, IntegersFollowStableHlo) {
  const std::vector<int32_t> x = {7, -7, INT32_MIN, 5}, y = {2, 2, -1, 0};
  TileProgram program({4});
  const int a = program.input(DType::s32, {1}, 0), b = program.input(DType::s32, {1}, 1);
  program.output(program.apply(TileOp::divide, DType::s32, {{a, b}}));
  program.output(program.apply(TileOp::subtract, DType::s32, {{a, b}}));
  program.finish();
  std::vector<int32_t> quotient(4), difference(4);
  const void* inputs[] = {x.data(), y.data()};
  void* outputs[] = {quotient.data(), difference.data()};
  program.run(inputs, outputs);
  EXPECT_EQ(quotient, (std::vector<int32_t>{3, -3, INT32_MIN, -1}));
  EXPECT_EQ(difference, (std::vector<int32_t>{5, -9, INT32_MIN + 1, 5}));
}

}  // namespace
}  // namespace tessera::cpu
