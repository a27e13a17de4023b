#include "core/ops/permute_tokens.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

class CudaPermuteTokens : public OpTest {
 protected:
  static void check_order(int64_t tokens, int64_t k, int64_t groups) {
    check_kernel(ops::kExpertOrder,
                 {{{DType::s32, {tokens, k}}}, {{Attr::group_count, groups}}, {{-1, static_cast<double>(groups)}}},
                 {.kernel = "cuda.expert_order"});
  }
  // All three moves of tokens, with and without weights.
  static void check_moves(int64_t tokens, int64_t k, int64_t width, DType dtype) {
    std::vector<int32_t> order(static_cast<size_t>(tokens * k));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    const HostTensor places = HostTensor::of<int32_t>({tokens, k}, order),
                     x = uniform_tensor({dtype, {tokens, width}}, -1, 1, 1),
                     rows = uniform_tensor({dtype, {tokens * k, width}}, -1, 1, 2),
                     weights = uniform_tensor({DType::f32, {tokens, k}}, -1, 1, 3);
    KernelCheck check;
    check.tolerance = dtype == DType::bf16 ? 1.0 / 256 : 1e-5;
    const auto run = [&](const OpDef& op, std::vector<HostTensor> operands) {
      check.kernel = cat("cuda.", op.name);
      check_kernel(op, {}, std::move(operands), check);
    };
    run(ops::kPermuteTokens, {x, places});
    run(ops::kPermuteTokens, {x, places, weights});
    run(ops::kUnpermuteTokens, {rows, places});
    run(ops::kUnpermuteTokens, {rows, places, weights});
    check.tolerance = 1e-5;
    run(ops::kTokenDots, {rows, places, x});
  }
};

TEST_F(CudaPermuteTokens, ExpertOrder) {
  check_order(50, 2, 8);
  check_order(700, 3, 5);    // more than a tile of the sort
  check_order(40, 2, 300);   // two digits
  check_order(3, 1, 1);
  check_order(0, 2, 4);
  check_order(4, 2, 0);
}

TEST_F(CudaPermuteTokens, ThereAndBack) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check_moves(9, 2, 64, dtype);
    check_moves(5, 3, 1100, dtype);  // more than a warp takes at once
    check_moves(7, 1, 13, dtype);    // no whole packs
    check_moves(1, 1, 1, dtype);
    check_moves(0, 2, 8, dtype);
    check_moves(3, 2, 0, dtype);
  }
}

// Few, since they are slow in software.
TEST_F(CudaPermuteTokens, RandomSizes) {
  std::mt19937 generator(5);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  for (int i = 0; i < 25 && !HasFailure(); ++i) {
    if (i % 5 == 0) check_order(draw(0, 60), draw(1, 4), draw(0, 40));
    check_moves(draw(0, 20), draw(1, 4), draw(0, 1) ? 8 * draw(1, 20) : draw(1, 100),
                draw(0, 1) ? DType::bf16 : DType::f32);
  }
}

// Who only reads rows skips places outside of them.
TEST_F(CudaPermuteTokens, SkipsPlacesOutsideOfTheRows) {
  const std::vector<std::pair<double, double>> ranges = {{-1, 1}, {-3, 14}};
  const TensorType rows{DType::f32, {12, 16}}, places{DType::s32, {6, 2}};
  check_kernel(ops::kUnpermuteTokens, {{rows, places, {DType::f32, {6, 2}}}, {}, ranges},
               {.kernel = "cuda.unpermute_tokens"});
  check_kernel(ops::kTokenDots, {{rows, places, {DType::f32, {6, 16}}}, {}, ranges}, {.kernel = "cuda.token_dots"});
}

}  // namespace
}  // namespace tessera
