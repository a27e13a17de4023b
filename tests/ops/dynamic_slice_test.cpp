#include "core/ops/dynamic_slice.h"

#include <gtest/gtest.h>

#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "tests/ops/partition_harness.h"

namespace tessera {
namespace {

using testing::check_all_partitions;
using testing::check_partition;
using testing::evaluate;
using testing::line_mesh;

HostTensor index_of(int64_t value, DType dtype = DType::s32) {
  HostTensor tensor({dtype, {}});
  tensor.set_int(0, value);
  return tensor;
}

HostTensor counting(Shape shape, DType dtype = DType::f64, double first = 1) {
  HostTensor tensor({dtype, std::move(shape)});
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.set_real(i, first + static_cast<double>(i));
  return tensor;
}

TEST(DynamicSlice, ClampsTheStart) {
  const HostTensor x = counting({5});
  const Attributes two{{Attr::slice_sizes, Ints{2}}};
  auto first = [&](HostTensor start) {
    return evaluate(ops::kDynamicSlice, two, {x, std::move(start)})[0].get_real(0);
  };
  EXPECT_EQ(first(index_of(1)), 2);
  EXPECT_EQ(first(index_of(-7)), 1);
  EXPECT_EQ(first(index_of(9)), 4);
  EXPECT_EQ(first(index_of(-1, DType::u64)), 4);  // the largest u64
}

TEST(DynamicUpdateSlice, ClampsTheStart) {
  const HostTensor made = evaluate(ops::kDynamicUpdateSlice, {},
                                   {counting({4}), counting({2}, DType::f64, 8), index_of(7)})[0];
  EXPECT_EQ(made.get_real(1), 2);
  EXPECT_EQ(made.get_real(2), 8);
  EXPECT_EQ(made.get_real(3), 9);
}

// Pitfall 3: clamp on global indices before localising. Every start around every border, dims that
// do not divide, and dims smaller than the number of devices.
TEST(DynamicSlice, ShardedDimsClampOnGlobalExtents) {
  std::string failures;
  int count = 0;
  for (int64_t n : {2, 3, 5, 7})
    for (int64_t part = 1; part <= n; part += n > 4 ? 2 : 1)
      for (int64_t start = -2; start <= n + 1; ++start) {
        const Ints sizes{part};
        count += check_all_partitions(ops::kDynamicSlice, {{Attr::slice_sizes, sizes}},
                                      {counting({n}), index_of(start)}, failures);
        count += check_all_partitions(
            ops::kDynamicUpdateSlice, {},
            {counting({n}), counting({part}, DType::f64, 50), index_of(start)}, failures);
      }
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 500);
}

TEST(DynamicSlice, SeveralShardedDims) {
  std::string failures;
  int count = 0;
  for (int64_t start : {-1, 0, 2, 4, 9}) {
    for (const Ints& sizes : {Ints{2, 3, 4}, Ints{5, 3, 1}, Ints{1, 1, 3}}) {
      count += check_all_partitions(
          ops::kDynamicSlice, {{Attr::slice_sizes, sizes}},
          {counting({5, 3, 4}, DType::s32), index_of(start), index_of(1), index_of(start - 1)},
          failures);
      count += check_all_partitions(
          ops::kDynamicUpdateSlice, {},
          {counting({5, 3, 4}, DType::bf16), counting(Shape(sizes), DType::bf16, 70),
           index_of(start), index_of(1), index_of(start - 1)},
          failures);
    }
  }
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 200);
}

TEST(Combiner, CommonRegionsAreRecognised) {
  for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min, ReduceKind::product})
    EXPECT_EQ(ops::as_reduce_kind(*ops::combiner_of(kind, DType::f32)), kind);
  for (ReduceKind kind : {ReduceKind::logical_and, ReduceKind::logical_or}) {
    EXPECT_EQ(ops::as_reduce_kind(*ops::combiner_of(kind, DType::pred)), kind);
    EXPECT_FALSE(ops::as_reduce_kind(*ops::combiner_of(kind, DType::s32)));  // bitwise
  }
  EXPECT_EQ(ops::as_reduce_kind(*ops::combiner_of(ReduceKind::sum, DType::pred)),
            ReduceKind::logical_or);
  const auto comparison =
      ops::as_comparison(*ops::comparator_of({DType::f32, DType::s32}, CompareDirection::gt, 1));
  ASSERT_TRUE(comparison);
  EXPECT_EQ(comparison->key, 1);
  EXPECT_EQ(comparison->direction, CompareDirection::gt);
  Graph region;  // x - y is no kind
  Builder b(region);
  const Value x = b.input(InputKind::data, "x", {DType::f32, {}}),
              y = b.input(InputKind::data, "y", {DType::f32, {}});
  b.output(ops::subtract(b, x, y), "z");
  EXPECT_FALSE(ops::as_reduce_kind(region));
  EXPECT_FALSE(ops::as_comparison(region));
}

}  // namespace
}  // namespace tessera
