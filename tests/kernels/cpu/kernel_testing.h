// Random operands, poisoned outputs, and comparison with loops in double, for tests of CPU kernels.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/types/narrow_float.h"

namespace tessera {

template <typename T>
std::vector<T> random_values(int64_t count, unsigned seed, double low = -1, double high = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(T(static_cast<float>(uniform(generator))));
  return values;
}

// NaN everywhere, so that whatever a kernel leaves unwritten or reads before writing shows.
template <typename T>
std::vector<T> poisoned(int64_t count) {
  return std::vector<T>(static_cast<size_t>(count), T(std::numeric_limits<float>::quiet_NaN()));
}

template <typename T>
double as_double(T value) {
  return static_cast<double>(static_cast<float>(value));
}
template <>
inline double as_double(double value) {
  return value;
}

// Half a unit in the last place of 1, with room for sums: the tolerance per dtype.
template <typename T>
constexpr double kTolerance = 2e-5;
template <>
inline constexpr double kTolerance<double> = 1e-12;
template <>
inline constexpr double kTolerance<bfloat16> = 1.0 / 128;

// |got - want| <= tolerance * max(|want|, scale).
template <typename T>
void expect_close(const std::vector<T>& got, const std::vector<double>& want, double tolerance,
                  double scale = 1.0) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double value = as_double(got[i]);
    if (value == want[i]) continue;
    ASSERT_LE(std::abs(value - want[i]), tolerance * std::max(std::abs(want[i]), scale))
        << "element " << i << ": got " << value << ", want " << want[i];
  }
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Runs `body` with 1, 2, 3 and 5 threads; it must return the same bits each time. Returns them.
template <typename Body>
auto same_with_any_threads(const Body& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto first = body();
  for (int threads : {2, 3, 5}) {
    omp_set_num_threads(threads);
    EXPECT_TRUE(same_bits(first, body())) << "differs with " << threads << " threads";
  }
  omp_set_num_threads(before);
  return first;
}

}  // namespace tessera
