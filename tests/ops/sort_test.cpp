#include "core/ops/sort.h"

#include <gtest/gtest.h>

#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "tests/ops/partition_harness.h"

namespace tessera {
namespace {

using testing::check_all_partitions;
using testing::evaluate;
using testing::random_operands;

template <typename T>
HostTensor tensor(Shape shape, std::vector<T> values) {
  return HostTensor::of<T>(std::move(shape), values);
}
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Sort, IsStableAndTotal) {
  const auto sorted =
      evaluate(ops::kSort, {{Attr::dimension, int64_t{0}}, {Attr::direction, CompareDirection::lt}},
               {tensor<double>({6}, {1, kNaN, 0.0, -0.0, 1, -kInfinity}),
                tensor<int32_t>({6}, {0, 1, 2, 3, 4, 5})});
  EXPECT_EQ(sorted[1], tensor<int32_t>({6}, {5, 3, 2, 0, 4, 1}));
}

// A region that is no single comparison is interpreted: by |x|.
TEST(Sort, ByARegion) {
  auto region = std::make_shared<Graph>();
  Builder b(*region);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {}}),
              y = b.input(InputKind::data, "y", {DType::f64, {}});
  b.output(ops::compare(b, ops::abs(b, x), ops::abs(b, y), CompareDirection::lt), "before");
  const auto sorted =
      evaluate(ops::kSort, {{Attr::dimension, int64_t{0}}, {Attr::combiner, GraphRef(region)}},
               {tensor<double>({4}, {-3, 2, -1, 3})});
  EXPECT_EQ(sorted[0], tensor<double>({4}, {-1, 2, -3, 3}));
}

TEST(Sort, ShardedSamples) {
  std::string failures;
  std::mt19937_64 rng(3);
  int count = 0;
  for (const OpDef* op : {&ops::kSort, &ops::kTopK})
    for (const OpSample& sample : op->samples())
      count += check_all_partitions(*op, sample.attributes, random_operands(sample, rng), failures);
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 60);
}

// Ties go to the lower global index; infinities and NaN of the tensor are not mistaken for padding.
TEST(TopK, TiesAndInfinitiesBesidePadding) {
  std::string failures;
  for (const auto& values : {std::vector<double>{2, 1, 2, 1, 2},
                             {-kInfinity, -kInfinity, -kInfinity, 3, -kInfinity},
                             {kInfinity, kNaN, kInfinity, 1, kNaN},
                             {7, 7, 7, 7, 7}})
    for (int64_t k : {1, 2, 3, 5})
      for (bool largest : {true, false})
        check_all_partitions(ops::kTopK, {{Attr::k, k}, {Attr::largest, largest}},
                             {tensor<double>({5}, values)}, failures);
  for (int64_t n : {2, 3})  // fewer elements than devices
    check_all_partitions(
        ops::kTopK, {{Attr::k, n}},
        {testing::evaluate(*&ops::kAbs, {}, {HostTensor::filled({DType::f32, {n}}, 1)})[0]},
        failures);
  EXPECT_EQ(failures, "");
}

}  // namespace
}  // namespace tessera
