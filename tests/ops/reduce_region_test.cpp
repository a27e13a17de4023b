#include "core/ops/reduce_region.h"

#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "tests/ops/partition_harness.h"

namespace tessera {
namespace {

using testing::check_all_partitions;
using testing::evaluate;
using testing::random_operands;
using testing::tensor;

Attributes over(Ints dims, GraphRef region) {
  return {{Attr::dimensions, std::move(dims)}, {Attr::combiner, std::move(region)}};
}

TEST(ReduceRegion, ArgmaxTakesTheFirstOfEquals) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {2, 4}});
  const auto most = ops::argmax(b, x, 1), least = ops::argmin(b, x, 1);
  b.output(most.values, "max");
  b.output(most.indices, "argmax");
  b.output(least.indices, "argmin");
  const auto made = interpret(
      graph, std::vector<HostTensor>{tensor<float>({2, 4}, {1, 5, 5, -2, 3, 3, std::nanf(""), 4})});
  EXPECT_EQ(made[0].get_real(0), 5);
  EXPECT_EQ(made[1], tensor<int32_t>({2}, {1, 2}));
  EXPECT_EQ(made[2], tensor<int32_t>({2}, {3, 2}));
}

TEST(ReduceRegion, ShardedSamples) {
  std::string failures;
  std::mt19937_64 rng(3);
  int count = 0;
  for (const OpSample& sample : ops::kReduce.samples())
    count += check_all_partitions(ops::kReduce, sample.attributes, random_operands(sample, rng),
                                  failures);
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 40);
}

// Pitfall 2: an initial value that is no identity counts once, whatever the sharding; pitfall 1:
// argmax pairs beside garbage, on dims smaller than the number of devices too.
TEST(ReduceRegion, InitialValuesCountOnceAndPaddingNever) {
  std::string failures;
  std::mt19937_64 rng(4);
  int count = 0;
  for (int64_t n : {2, 3, 5}) {
    for (bool largest : {true, false})
      count +=
          check_all_partitions(ops::kReduce, over({0}, ops::extreme_region(DType::f32, largest)),
                               {testing::random_tensor({DType::f32, {n, 3}}, -5, -1, rng),
                                evaluate(ops::kIota,
                                         {{Attr::dimension, int64_t{0}},
                                          {Attr::shape, Ints{n, 3}},
                                          {Attr::dtype, DType::s32}},
                                         {})[0],
                                HostTensor::filled({DType::f32, {}}, largest ? -100 : 100),
                                HostTensor::filled({DType::s32, {}}, 77)},
                               failures);
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::product})
      count += check_all_partitions(ops::kReduce,
                                    {{Attr::dimensions, Ints{0, 1}}, {Attr::reduce_kind, kind}},
                                    {testing::random_tensor({DType::f64, {n, 3}}, 1, 2, rng),
                                     HostTensor::filled({DType::f64, {}}, 3)},
                                    failures);
  }
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 60);
}

// An associative region that is not commutative: the second of two. Shards are combined in order.
TEST(ReduceRegion, ShardsAreCombinedInOrder) {
  auto last = std::make_shared<Graph>();
  Builder b(*last);
  b.input(InputKind::data, "x", {DType::s32, {}});
  b.output(b.input(InputKind::data, "y", {DType::s32, {}}), "last");
  std::string failures;
  const int count = check_all_partitions(
      ops::kReduce, over({0}, last),
      {tensor<int32_t>({5}, {1, 2, 3, 4, 5}), tensor<int32_t>({}, {9})}, failures);
  EXPECT_GT(count, 3);
  EXPECT_EQ(failures, "");
}

}  // namespace
}  // namespace tessera
