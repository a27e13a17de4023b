#include <cmath>
#include <limits>
#include <optional>
#include <random>

#include "core/ops/cross_entropy.h"
#include "core/ops/embedding.h"
#include "core/ops/loss.h"
#include "core/ops/support.h"
#include "tests/gpu/device_testing.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// bf16 results (the gradient's) are rounded once, 2^-9; everything else is f32 of the exact operands.
HostTensor random_reals(const TensorType& type, double low, double high, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, uniform(generator));
  return tensor;
}
HostTensor random_ids(const TensorType& type, int64_t low, int64_t high, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int64_t> uniform(low, high);
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_int(i, uniform(generator));
  return tensor;
}
HostTensor start_of(int64_t start) {
  HostTensor tensor({DType::s64, {}});
  tensor.set_int(0, start);
  return tensor;
}

class CudaLogitsTest : public DeviceTest {
 protected:
  // The three ops; logits in [-4, 4] and a maximum near theirs. Column 0 is entry `start`, where there is one.
  static void check_logits(HostTensor logits, int64_t valid_size, DType id, std::optional<int64_t> start) {
    const TensorType type = logits.type();
    SCOPED_TRACE(testing::Message() << type << " valid " << valid_size << " start " << start.value_or(-1));
    const Shape rows = ops::without_last(type.shape);
    const int64_t columns = type.shape[type.shape.rank() - 1];
    const HostTensor max = random_reals({DType::f32, rows}, 3, 4, 2), d_sum = random_reals({DType::f32, rows}, -1, 1, 3),
                     d_target = random_reals({DType::f32, rows}, -1, 1, 4),
                     // Some below the shard, some above.
                     targets = random_ids({id, rows}, start.value_or(0) - columns / 4, start.value_or(0) + columns + 2, 5);
    std::vector<HostTensor> of_max = {logits}, of_sum = {logits, max, targets},
                            of_grad = {logits, max, targets, d_sum, d_target};
    if (start)
      for (auto* operands : {&of_max, &of_sum, &of_grad}) operands->push_back(start_of(*start));
    const Attributes attributes{{Attr::valid_size, valid_size}};
    check_kernel(ops::kLogitsMax, attributes, of_max, check_of("cuda.logits_max", DType::f32));
    check_kernel(ops::kLogitsSum, attributes, of_sum, check_of("cuda.logits_sum", DType::f32));
    check_kernel(ops::kLogitsSumGrad, attributes, of_grad, check_of("cuda.logits_sum_grad", type.dtype));
    if (!start) check_all_at_once(logits, valid_size, id);
  }
  // The three as one, with a slope in lse and without.
  static void check_all_at_once(const HostTensor& logits, int64_t valid_size, DType id) {
    const Shape rows = ops::without_last(logits.shape());
    SCOPED_TRACE(testing::Message() << logits.type() << " valid " << valid_size);
    std::vector<HostTensor> operands = {logits, random_ids({id, rows}, -2, valid_size + 2, 5)};
    for (const unsigned seed : {6, 7, 8}) {
      operands.push_back(random_reals({DType::f32, rows}, -1, 1, seed));
      if (seed == 6) continue;
      check_kernel(ops::kCrossEntropyWithGrad, {{Attr::valid_size, valid_size}}, operands,
                   check_of("cuda.cross_entropy_with_grad", logits.dtype()));
    }
  }
};
class CudaLogitsLong : public CudaLogitsTest {};

// Rows that begin anywhere within 16 bytes, of warps and of blocks.
TEST_F(CudaLogitsTest, Columns) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t columns : {1, 3, 33, 127, 768, 1000, 4097})
      check_logits(random_reals({dtype, {3, columns}}, -4, 4, 1), columns, DType::s32, std::nullopt);
}

TEST_F(CudaLogitsTest, Rows) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {0, 1, 11})
      check_logits(random_reals({dtype, {rows, 2, 57}}, -4, 4, 1), 57, DType::s64, std::nullopt);
}

// Shards: whole, partly padding, padding alone; and padding without shards.
TEST_F(CudaLogitsTest, PaddingAndStarts) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t start : {0, 130, 195, 260})
      check_logits(random_reals({dtype, {4, 65}}, -4, 4, 1), 200, DType::s32, start);
    check_logits(random_reals({dtype, {2, 1501}}, -4, 4, 1), 1490, DType::s64, std::nullopt);
    check_logits(random_reals({dtype, {2, 1504}}, -4, 4, 1), 1400, DType::s64, 1000);
  }
}

// Masked entries, a row of nothing else, and logits whose exponentials would overflow without the maximum.
TEST_F(CudaLogitsTest, InfiniteAndHuge) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    HostTensor logits = random_reals({dtype, {3, 130}}, -4, 4, 1);
    for (int64_t i = 0; i < 130; ++i) {
      if (i % 3 == 0) logits.set_real(i, -kInfinity);
      logits.set_real(130 + i, -kInfinity);
      logits.set_real(260 + i, i % 2 ? 3e38 : 16384 + i);
    }
    check_kernel(ops::kLogitsMax, {{Attr::valid_size, int64_t{130}}}, {logits}, check_of("cuda.logits_max", DType::f32));

    for (int64_t i = 0; i < 130; ++i) {
      logits.set_real(130 + i, i == 77 ? 1.0 : -kInfinity);
      logits.set_real(260 + i, 16384 - 64 * (i % 4));
    }
    HostTensor max({DType::f32, {3}}), targets({DType::s32, {3}});
    for (const auto& [row, value] : {std::pair{0, 4.0}, {1, 1.0}, {2, 16384.0}}) max.set_real(row, value);
    for (const auto& [row, value] : {std::pair{0, 0}, {1, 77}, {2, 4}}) targets.set_int(row, value);
    const HostTensor d_sum = random_reals({DType::f32, {3}}, 0.5, 1, 3), d_target = random_reals({DType::f32, {3}}, -1, -0.5, 4);
    const Attributes attributes{{Attr::valid_size, int64_t{130}}};
    check_kernel(ops::kLogitsSum, attributes, {logits, max, targets}, check_of("cuda.logits_sum", DType::f32));
    check_kernel(ops::kLogitsSumGrad, attributes, {logits, max, targets, d_sum, d_target},
                 check_of("cuda.logits_sum_grad", dtype));
    check_kernel(ops::kCrossEntropyWithGrad, attributes, {logits, targets, d_target, d_sum},
                 check_of("cuda.cross_entropy_with_grad", dtype));
  }
}

// More rows than blocks, whose next rows are asked for ahead; and rows that shared memory does not hold.
TEST_F(CudaLogitsTest, AllAtOnceManyAndLongRows) {
  for (const int64_t columns : {4096, 4099})
    check_all_at_once(random_reals({DType::bf16, {30, columns}}, -4, 4, 1), columns, DType::s32);
  check_all_at_once(random_reals({DType::f32, {5, 30003}}, -4, 4, 1), 30001, DType::s32);
  check_all_at_once(random_reals({DType::f32, {4, 60001}}, -4, 4, 1), 60001, DType::s64);
}

// A NaN is not lost in the maximum, wherever it stands.
TEST_F(CudaLogitsTest, MaximumKeepsNan) {
  for (const int64_t columns : {40, 1300}) {
    HostTensor logits = random_reals({DType::bf16, {2, columns}}, -4, 4, 1);
    logits.set_real(columns + columns - 2, std::numeric_limits<double>::quiet_NaN());
    const CheckedKernel checked = check_kernel(ops::kLogitsMax, {{Attr::valid_size, columns}}, {logits});
    EXPECT_FALSE(std::isnan(checked.results.at(0).get_real(0)));
    EXPECT_TRUE(std::isnan(checked.results.at(0).get_real(1)));
  }
}

TEST_F(CudaLogitsLong, Vocabulary) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t columns : {50257, 50304})
      check_logits(random_reals({dtype, {513, columns}}, -4, 4, 1), 50257, DType::s32, std::nullopt);
  check_all_at_once(random_reals({DType::bf16, {300, 128256}}, -4, 4, 1), 128256, DType::s32);
}

// ---- embedding ----------------------------------------------------------------------------------

class CudaEmbeddingTest : public DeviceTest {
 protected:
  static void check_table(const TensorType& table, const HostTensor& ids, std::optional<int64_t> start) {
    SCOPED_TRACE(testing::Message() << table << " ids " << ids.type() << " start " << start.value_or(-1));
    Shape rows = ids.shape();
    rows.push_back(table.shape[1]);
    std::vector<HostTensor> of_embedding = {random_reals(table, -4, 4, 1), ids},
                            of_grad = {ids, random_reals({table.dtype, rows}, -1, 1, 2)};
    if (start)
      for (auto* operands : {&of_embedding, &of_grad}) operands->push_back(start_of(*start));
    KernelCheck exact;
    exact.kernel = "cuda.embedding";
    exact.tolerance = 0;
    check_kernel(ops::kEmbedding, {}, of_embedding, exact);
    check_kernel(ops::kEmbeddingGrad, {{Attr::vocab_dim, table.shape[0]}}, of_grad,
                 check_of("cuda.embedding_grad", DType::f32));
  }
};
class CudaEmbeddingLong : public CudaEmbeddingTest {};

TEST_F(CudaEmbeddingTest, Widths) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t width : {1, 3, 33, 127, 256, 768})
      check_table({dtype, {50, width}}, random_ids({DType::s32, {2, 30}}, -5, 60, 3), std::nullopt);
}

TEST_F(CudaEmbeddingTest, NoIdsNoRowsNoWidth) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check_table({dtype, {5, 8}}, random_ids({DType::s64, {0}}, 0, 4, 3), std::nullopt);
    check_table({dtype, {0, 8}}, random_ids({DType::s64, {3}}, 0, 4, 3), std::nullopt);
    check_table({dtype, {5, 0}}, random_ids({DType::s64, {3}}, 0, 4, 3), std::nullopt);
    check_table({dtype, {5, 8}}, random_ids({DType::s32, {1}}, 2, 2, 3), std::nullopt);
  }
}

TEST_F(CudaEmbeddingTest, Starts) {
  for (const int64_t start : {0, 40, 400})
    check_table({DType::bf16, {40, 24}}, random_ids({DType::s64, {90}}, 0, 119, 3), start);
}

// Runs over many tiles and levels: one id for all, two ids, and most of them one.
TEST_F(CudaEmbeddingTest, RepeatedIds) {
  check_table({DType::f32, {3, 4}}, random_ids({DType::s32, {2500}}, 1, 1, 3), std::nullopt);
  check_table({DType::bf16, {9, 8}}, random_ids({DType::s32, {2500}}, 3, 4, 3), std::nullopt);
  HostTensor ids = random_ids({DType::s64, {4200}}, 0, 299, 3);
  for (int64_t i = 0; i < ids.elements(); ++i)
    if (i % 3) ids.set_int(i, 17);
  check_table({DType::f32, {300, 5}}, ids, std::nullopt);
}

// Two and three digits of the sort.
TEST_F(CudaEmbeddingTest, LargeVocabulary) {
  check_table({DType::bf16, {1000, 8}}, random_ids({DType::s32, {2100}}, 0, 1010, 3), std::nullopt);
  check_table({DType::f32, {70000, 1}}, random_ids({DType::s64, {300}}, 69000, 70100, 3), std::nullopt);
}

TEST_F(CudaEmbeddingTest, AnyTableIsCopied) {
  HostTensor table({DType::s64, {4, 3}}), ids({DType::s32, {2}});
  for (int64_t i = 0; i < table.elements(); ++i) table.set_int(i, 1000 * i);
  ids.set_int(0, 3);
  ids.set_int(1, 0);
  check_kernel(ops::kEmbedding, {}, {table, ids}, {.kernel = "cuda.embedding"});
}

TEST_F(CudaEmbeddingLong, Vocabulary) {
  check_table({DType::bf16, {50304, 768}}, random_ids({DType::s32, {65536}}, 0, 50256, 3), std::nullopt);
  check_table({DType::bf16, {262144, 64}}, random_ids({DType::s32, {1 << 20}}, 0, 262143, 3), std::nullopt);
}

}  // namespace
}  // namespace tessera
