#include "core/ops/ragged.h"

#include <random>

#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

// Rows, depth, columns, and the sizes of the groups.
struct Ragged {
  int64_t m, k, n;
  std::vector<int32_t> sizes;
};

class CudaRaggedTest : public OpTest {
 protected:
  // Both forms of ragged_dot and ragged_contraction; `kernel` is the end of the kernels' names.
  static void check(const Ragged& r, DType dtype, DType result, const std::string& kernel) {
    SCOPED_TRACE(testing::Message() << dtype << " -> " << result << " m " << r.m << " k " << r.k << " n " << r.n
                                    << " sizes " << join(r.sizes));
    const auto groups = static_cast<int64_t>(r.sizes.size());
    const HostTensor lhs = uniform_tensor({dtype, {r.m, r.k}}, -1, 1, 1),
                     sizes = HostTensor::of<int32_t>({groups}, r.sizes);
    const auto run = [&](const OpDef& op, const TensorType& rhs, Attributes attributes) {
      if (dtype != result) attributes.set(Attr::dtype, result);
      KernelCheck check;
      check.kernel = cat("cuda.", op.name, "_", kernel);
      // Operands are exact in f64; bf16 results are rounded once.
      check.tolerance = result == DType::bf16 ? 1.0 / 256 : 1e-5;
      check_kernel(op, attributes, {lhs, uniform_tensor(rhs, -1, 1, 2), sizes}, check);
    };
    run(ops::kRaggedDot, {dtype, {groups, r.k, r.n}}, {{Attr::rhs_contracting, Ints{1}}});
    run(ops::kRaggedDot, {dtype, {groups, r.n, r.k}}, {{Attr::rhs_contracting, Ints{2}}});
    run(ops::kRaggedContraction, {dtype, {r.m, r.n}}, {});
  }
};

TEST_F(CudaRaggedTest, OnTensorCores) {
  check({40, 64, 72, {7, 0, 30, 1}}, DType::bf16, DType::bf16, "tensor");  // rows in no group
  check({300, 40, 136, {0, 150, 0, 0, 130, 20}}, DType::bf16, DType::f32, "tensor");  // more than a tile each
  check({5, 264, 8, {5}}, DType::bf16, DType::bf16, "tensor");  // more pieces of depth than stages
  check({6, 16, 8, {0, 0}}, DType::bf16, DType::f32, "tensor");  // nothing but zeros
}

TEST_F(CudaRaggedTest, Plain) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check({40, 33, 67, {7, 0, 30, 1}}, dtype, dtype, "plain");
    check({150, 5, 7, {0, 70, 0, 80}}, dtype, DType::f32, "plain");
  }
  check({3, 1, 1, {1, 1}}, DType::f32, DType::f32, "plain");
}

// More groups than lanes of the warp that counts them; more tiles than blocks.
TEST_F(CudaRaggedTest, ManyGroups) {
  Ragged r{90, 8, 8, {}};
  for (int g = 0; g < 70; ++g) r.sizes.push_back(g % 3);
  r.sizes[69] = 20;
  check(r, DType::bf16, DType::bf16, "tensor");
  check(r, DType::f32, DType::f32, "plain");
}

// A device that has some of the groups, up to ones that do not exist.
TEST_F(CudaRaggedTest, ShardOfTheGroups) {
  const HostTensor sizes = HostTensor::of<int32_t>({5}, std::vector<int32_t>{3, 140, 0, 9, 4});
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const int64_t start : {0, 1, 3, 5}) {
      SCOPED_TRACE(testing::Message() << dtype << " from " << start);
      HostTensor from({DType::s64, {}});
      from.set_int(0, start);
      KernelCheck check;
      check.kernel = cat("cuda.ragged_dot_", dtype == DType::bf16 ? "tensor" : "plain");
      check.tolerance = dtype == DType::bf16 ? 1.0 / 256 : 1e-5;
      const HostTensor lhs = uniform_tensor({dtype, {160, 16}}, -1, 1, 1);
      check_kernel(ops::kRaggedDot, {{Attr::rhs_contracting, Ints{1}}},
                   {lhs, uniform_tensor({dtype, {3, 16, 24}}, -1, 1, 2), sizes, from}, check);
      check.kernel = cat("cuda.ragged_contraction_", dtype == DType::bf16 ? "tensor" : "plain");
      check_kernel(ops::kRaggedContraction, {{Attr::group_count, int64_t{3}}},
                   {lhs, uniform_tensor({dtype, {160, 24}}, -1, 1, 3), sizes, from}, check);
    }
}

TEST_F(CudaRaggedTest, NoRowsOrNoColumns) {
  check({0, 8, 8, {0, 0}}, DType::bf16, DType::bf16, "tensor");
  check({4, 0, 8, {2, 2}}, DType::bf16, DType::bf16, "tensor");
  check({4, 8, 0, {2, 2}}, DType::f32, DType::f32, "plain");
}

// Few, since they are slow in software.
TEST_F(CudaRaggedTest, RandomGroups) {
  std::mt19937 generator(11);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  for (int i = 0; i < 25 && !HasFailure(); ++i) {
    Ragged r{draw(0, 160), 8 * draw(1, 4), 8 * draw(1, 4), {}};
    int64_t left = r.m;
    for (int64_t g = draw(1, 9); g > 0; --g) {
      const int64_t size = draw(0, 2) == 0 ? 0 : draw(0, left);
      r.sizes.push_back(static_cast<int32_t>(size));
      left -= size;
    }
    check(r, DType::bf16, draw(0, 1) ? DType::bf16 : DType::f32, "tensor");
  }
}

// Sizes that the reference refuses are cut: their rows do not exist.
TEST_F(CudaRaggedTest, CutsSizesBeyondTheRows) {
  const auto run = [](DType dtype, const std::vector<int32_t>& sizes) {
    const OpDef& op = ops::kRaggedDot;
    Instruction instruction;
    instruction.op = &op;
    instruction.attributes = {{Attr::rhs_contracting, Ints{1}}};
    const HostTensor lhs = uniform_tensor({dtype, {6, 8}}, -1, 1, 1), rhs = uniform_tensor({dtype, {3, 8, 8}}, -1, 1, 2),
                     counts = HostTensor::of<int32_t>({3}, sizes);
    const std::vector<TensorType> types = {lhs.type(), rhs.type(), counts.type()}, result = {{dtype, {6, 8}}};
    const OpCall call{types, instruction.attributes};
    const Kernel& kernel = *backend().kernels().choose(op, call, result).kernel;
    const GuardedBuffer a(backend(), lhs), b(backend(), rhs), c(backend(), counts), y(backend(), result[0].bytes()),
        workspace(backend(), kernel.workspace_bytes(call, result));
    const TensorView operands[] = {{types[0], a.data()}, {types[1], b.data()}, {types[2], c.data()}},
                     results[] = {{result[0], y.data()}};
    kernel.run({instruction, operands, results, workspace.data(), backend().stream()});
    return y.get(result[0], "the result");
  };
  for (const DType dtype : {DType::bf16, DType::f32}) {
    EXPECT_TRUE(run(dtype, {2, 9, 1}) == run(dtype, {2, 4, 0}));
    EXPECT_TRUE(run(dtype, {2, -3, 1}) == run(dtype, {2, 0, 1}));
    EXPECT_TRUE(run(dtype, {INT32_MAX, INT32_MAX, INT32_MAX}) == run(dtype, {6, 0, 0}));
  }
}

TEST_F(CudaRaggedTest, RefusesOtherTypes) {
  EXPECT_TRUE(is_refused(ops::kRaggedDot,
                         {uniform_tensor({DType::f64, {4, 8}}, -1, 1), uniform_tensor({DType::f64, {1, 8, 8}}, -1, 1),
                          HostTensor::filled({DType::s32, {1}}, 4)},
                         {{Attr::rhs_contracting, Ints{1}}}, "compiled for f32 and bf16"));
}

}  // namespace
}  // namespace tessera
