#include "core/ops/gather.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/interpreter.h"
#include "core/ops/combiner.h"
#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "core/ops/structure.h"
#include "tests/ops/partition_harness.h"

namespace tessera {
namespace {

using testing::check_all_partitions;
using testing::check_partition;
using testing::evaluate;
using testing::line_mesh;
using testing::random_operands;
using testing::random_tensor;
using testing::tensor;

const Attributes kRows{{Attr::offset_dims, Ints{1}},
                       {Attr::collapsed_slice_dims, Ints{0}},
                       {Attr::start_index_map, Ints{0}},
                       {Attr::index_vector_dim, int64_t{1}},
                       {Attr::slice_sizes, Ints{1, 2}}};
Attributes add_rows(ReduceKind kind = ReduceKind::sum) {
  return {{Attr::update_window_dims, Ints{1}},
          {Attr::inserted_window_dims, Ints{0}},
          {Attr::scatter_dims_to_operand_dims, Ints{0}},
          {Attr::index_vector_dim, int64_t{1}},
          {Attr::reduce_kind, kind}};
}

// The StableHLO specification's own example of gather, with windows [1, 2, 2] of [3, 4, 2].
TEST(Gather, ClampsEveryStart) {
  const HostTensor x = tensor<double>({3, 2}, {1, 2, 3, 4, 5, 6});
  const HostTensor y = evaluate(ops::kGather, kRows, {x, tensor<int32_t>({4}, {-3, 1, 2, 9})})[0];
  EXPECT_EQ(y, tensor<double>({4, 2}, {1, 2, 3, 4, 5, 6, 5, 6}));
}

// Out of range and negative: dropped, not clamped.
TEST(Scatter, DropsWhatIsOutOfRange) {
  const HostTensor x = tensor<double>({3, 2}, {0, 0, 0, 0, 0, 0});
  const HostTensor y = evaluate(ops::kScatter, add_rows(),
                                {x, tensor<int32_t>({5}, {-1, 1, 2, 3, 1}),
                                 tensor<double>({5, 2}, {9, 9, 1, 2, 3, 4, 9, 9, 10, 20})})[0];
  EXPECT_EQ(y, tensor<double>({3, 2}, {0, 0, 11, 22, 3, 4}));
}

// A window that lies partly outside: only its elements that are outside are dropped.
TEST(Scatter, DropsElementByElement) {
  const Attributes windows{{Attr::update_window_dims, Ints{1}},
                           {Attr::inserted_window_dims, Ints{}},
                           {Attr::scatter_dims_to_operand_dims, Ints{0}},
                           {Attr::index_vector_dim, int64_t{1}},
                           {Attr::reduce_kind, ReduceKind::sum}};
  const HostTensor y = evaluate(ops::kScatter, windows,
                                {tensor<double>({3}, {0, 0, 0}), tensor<int64_t>({2}, {-1, 2}),
                                 tensor<double>({2, 2}, {1, 2, 3, 4})})[0];
  EXPECT_EQ(y, tensor<double>({3}, {2, 0, 3}));
}

// Pitfall 3: indices are clamped (gather) or dropped (scatter) on global extents before they are
// made local; every op sample on every cut at 2, 3 and 4 devices, with garbage in the padding.
TEST(Gather, ShardedSamples) {
  std::string failures;
  std::mt19937_64 rng(11);
  int count = 0;
  for (const OpDef* op : {&ops::kGather, &ops::kScatter})
    for (const OpSample& sample : op->samples())
      for (int round = 0; round < 3; ++round)
        count +=
            check_all_partitions(*op, sample.attributes, random_operands(sample, rng), failures);
  EXPECT_EQ(failures, "");
  EXPECT_GT(count, 300);
}

// A vocabulary of 5 and of 2 rows on up to 4 devices: the last shards are short or empty, ids are
// negative and beyond the end.
TEST(Gather, VocabularyShardedTable) {
  std::string failures;
  const HostTensor ids = tensor<int32_t>({7}, {-5, -1, 0, 1, 4, 5, 100});
  for (int64_t rows : {2, 5}) {
    std::mt19937_64 rng(5);
    check_all_partitions(ops::kGather, kRows,
                         {random_tensor({DType::f32, {rows, 2}}, -1, 1, rng), ids}, failures);
    for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min})
      check_all_partitions(ops::kScatter, add_rows(kind),
                           {random_tensor({DType::f32, {rows, 2}}, -1, 1, rng), ids,
                            random_tensor({DType::f32, {7, 2}}, -1, 1, rng)},
                           failures);
  }
  EXPECT_EQ(failures, "");
}

// Pitfall 2: what is there already is added once, however many devices hold updates; pitfall 4: the
// result is partial, and is reduced before anything cuts it.
TEST(Scatter, ShardedIndicesAddTheInputOnce) {
  const MeshPtr mesh = line_mesh(4);
  std::mt19937_64 rng(6);
  const std::vector<HostTensor> operands{random_tensor({DType::f64, {5, 2}}, 100, 200, rng),
                                         tensor<int32_t>({6}, {0, 1, -1, 4, 5, 1}),
                                         random_tensor({DType::f64, {6, 2}}, -1, 1, rng)};
  const std::vector<TensorType> types = types_of(operands);
  const Attributes attributes = add_rows();
  const OpCall call{types, attributes};
  const FactorRule rule = factor_rule(ops::kScatter, call, infer_types(ops::kScatter, call));
  std::vector<AxisList> axes(rule.factors.size());
  const int updates = rule.operands[1][0][0];
  ASSERT_EQ(rule.factors[static_cast<size_t>(updates)].kind, FactorKind::reduction);
  axes[static_cast<size_t>(updates)] = {mesh->axis("a")};
  EXPECT_EQ(check_partition(ops::kScatter, attributes, operands, mesh, axes), "");
  EXPECT_EQ(check_partition(ops::kScatter, attributes, operands, mesh, axes, 2), "");
}

// The gradient of a table goes to the row that was read: to the clamped one.
TEST(Gather, GradientGoesToTheClampedRows) {
  Graph graph;
  Builder b(graph);
  const Value table = b.input(InputKind::data, "table", {DType::f64, {3, 2}});
  const Value ids = b.input(InputKind::data, "ids", {DType::s32, {4}});
  const Value loss = ops::reduce_all(b, ops::take(b, table, ids));
  b.output(gradients(b, loss, std::vector<Value>{table})[0], "d");
  const HostTensor d =
      interpret(graph, std::vector<HostTensor>{HostTensor({DType::f64, {3, 2}}),
                                               tensor<int32_t>({4}, {-1, 1, 7, 2})})[0];
  EXPECT_EQ(d, tensor<double>({3, 2}, {1, 1, 1, 1, 2, 2}));
}

TEST(Gather, ErrorsNameBothShapes) {
  const std::vector<TensorType> types{{DType::f32, {3, 2}}, {DType::f32, {4}}};
  try {
    infer_types(ops::kGather, {types, kRows});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()), "gather: indices must be integers, not f32[4]");
  }
}

}  // namespace
}  // namespace tessera
