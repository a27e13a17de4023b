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
using testing::tensor;

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

GraphRef by_magnitude() {
  auto region = std::make_shared<Graph>();
  Builder b(*region);
  std::vector<Value> inputs;
  for (DType dtype : {DType::f64, DType::s32})
    for (const char* name : {"x", "y"})
      inputs.push_back(b.input(InputKind::data, name, {dtype, {}}));
  b.output(ops::compare(b, ops::abs(b, inputs[0]), ops::abs(b, inputs[1]), CompareDirection::gt),
           "before");
  return region;
}

// Many ties, NaN, infinities, of sizes around the number of devices: the second operand says where
// each element was.
TEST(Sort, MergesShardsStably) {
  std::string failures;
  std::mt19937_64 rng(11);
  const std::vector<double> values = {0.0, -0.0, 1, -1, 2, kInfinity, -kInfinity, kNaN, -kNaN};
  std::vector<Attributes> orders;
  for (CompareDirection direction : {CompareDirection::lt, CompareDirection::gt})
    orders.push_back({{Attr::direction, direction}});
  orders.push_back({{Attr::combiner, by_magnitude()}});
  orders.push_back(
      {{Attr::combiner, ops::comparator_of({DType::f64, DType::s32}, CompareDirection::gt)}});
  for (size_t order = 0; order < orders.size(); ++order)
    for (int64_t n : {2, 3, 5, 8, 13, 24}) {
      HostTensor keys({DType::f64, {2, n}}), places({DType::s32, {2, n}});
      for (int64_t i = 0; i < keys.elements(); ++i) {
        keys.set_real(i, values[rng() % (order < 2 ? 9 : 7)]);  // NaN only in a total order
        places.set_int(i, i);
      }
      Attributes attributes = orders[order];
      attributes.set(Attr::dimension, int64_t{1});
      check_all_partitions(ops::kSort, attributes, {keys, places}, failures);
    }
  EXPECT_EQ(failures, "");
}

// Over 6 devices of two axes, and over 16: the longest way is from one end to the other.
TEST(Sort, MergesShardsOfManyDevices) {
  HostTensor x({DType::s64, {70}});
  for (int64_t i = 0; i < 70; ++i) x.set_int(i, 70 - i);
  const Attributes attributes{{Attr::dimension, int64_t{0}},
                              {Attr::direction, CompareDirection::lt}};
  const auto square = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", 2}, {"b", 3}});
  const auto turned = std::make_shared<const Mesh>(std::vector<MeshAxis>{{"a", 3}, {"b", 2}});
  for (const auto& mesh : {square, turned})
    EXPECT_EQ(testing::check_partition(ops::kSort, attributes, {x}, mesh,
                                       {{mesh->axis("a"), mesh->axis("b")}}),
              "");
  for (int64_t devices : {8, 16, 17}) {
    const MeshPtr mesh = testing::line_mesh(devices);
    EXPECT_EQ(testing::check_partition(ops::kSort, attributes, {x}, mesh, {{mesh->axis("a")}}), "");
  }
}

TEST(Sort, NoDeviceHoldsTheWholeDim) {
  const std::vector<TensorType> types = {{DType::f32, {42}}, {DType::s32, {42}}};
  const Attributes attributes{{Attr::dimension, int64_t{0}},
                              {Attr::direction, CompareDirection::gt}};
  const OpCall call{types, attributes};
  for (int64_t devices : {3, 4}) {
    const MeshPtr mesh = testing::line_mesh(devices);
    testing::FakePartition context(ops::kSort, call, mesh, {{mesh->axis("a")}}, 0);
    const int64_t local = context.local_result_type(0).shape[0];
    ops::kSort.partition(context);
    for (const Instruction& instruction : context.graph.instructions) {
      EXPECT_NE(instruction.op->name, "all_gather");
      for (const ResultInfo& result : instruction.results) {
        EXPECT_LE(result.type.elements(), 2 * local);
      }
    }
  }
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
