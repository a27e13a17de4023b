#include "launch/data/permutation.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <vector>

namespace tessera {
namespace {

std::vector<int64_t> values(uint64_t seed, int64_t epoch, int64_t size) {
  const Permutation permutation(seed, epoch, size);
  std::vector<int64_t> result;
  for (int64_t i = 0; i < size; ++i) result.push_back(permutation(i));
  return result;
}

bool is_bijection(const std::vector<int64_t>& image) {
  std::vector<bool> seen(image.size());
  for (const int64_t value : image) {
    if (value < 0 || value >= static_cast<int64_t>(image.size()) || seen[value]) return false;
    seen[value] = true;
  }
  return true;
}

TEST(Permutation, IsABijectionOfEverySmallSize) {
  for (int64_t size = 1; size < 300; ++size)
    ASSERT_TRUE(is_bijection(values(7, size % 5, size))) << size;
}

RC_GTEST_PROP(PermutationProperty, IsABijection, (uint64_t seed)) {
  const auto epoch = *rc::gen::inRange<int64_t>(0, 1000);
  RC_ASSERT(is_bijection(values(seed, epoch, *rc::gen::inRange<int64_t>(1, 20000))));
}

TEST(Permutation, IsAPureFunctionThatDiffersByEpochAndSeed) {
  const auto base = values(1, 0, 1000);
  EXPECT_EQ(values(1, 0, 1000), base);
  for (const auto& other : {values(1, 1, 1000), values(2, 0, 1000), values(0, 1, 1000)}) {
    int same = 0;
    for (size_t i = 0; i < base.size(); ++i) same += base[i] == other[i];
    EXPECT_LT(same, 10);  // 1 is expected
  }
}

TEST(Permutation, FirstElementsAreUniform) {
  // Where element 0 of 100 lands over 10,000 epochs: chi-square with 99 degrees of freedom.
  std::vector<int> count(100);
  for (int64_t epoch = 0; epoch < 10000; ++epoch) ++count[Permutation(3, epoch, 100)(0)];
  double chi = 0;
  for (const int c : count) chi += (c - 100.0) * (c - 100.0) / 100.0;
  EXPECT_GT(chi, 50);  // 99 +- 14
  EXPECT_LT(chi, 160);
}

TEST(Permutation, NeighboursAreIndependent) {
  const auto image = values(11, 2, 100000);
  double sum = 0;
  for (size_t i = 1; i < image.size(); ++i)
    sum += (image[i] / 1e5 - 0.5) * (image[i - 1] / 1e5 - 0.5) * 12;
  EXPECT_LT(std::abs(sum / 1e5), 0.02);  // standard deviation 0.003
}

TEST(Permutation, HugeSizesStayInRange) {
  const int64_t size = (int64_t{1} << 40) + 12345;
  const Permutation permutation(1, 1, size);
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t value = permutation(size - 1 - i * 1000003);
    EXPECT_GE(value, 0);
    EXPECT_LT(value, size);
  }
}

}  // namespace
}  // namespace tessera
