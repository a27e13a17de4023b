#include "core/ops/norm.h"
#include "core/ops/optimizer.h"
#include "tests/gpu/op_testing.h"

namespace tessera {
namespace {

using CudaAdamW = OpTest;
using CudaSumOfSquares = OpTest;
using CudaSumOfSquaresLong = OpTest;

const Attributes kOptions{
    {Attr::beta1, 0.9}, {Attr::beta2, 0.95}, {Attr::epsilon, 1e-8}, {Attr::weight_decay, 0.1}};

std::vector<HostTensor> adamw_operands(DType dtype, int64_t n, double grad_scale) {
  const TensorType type{dtype, {n}};
  return {uniform_tensor(type, -1, 1, 1),   uniform_tensor(type, -1, 1, 2),
          uniform_tensor(type, 0.01, 1, 3), uniform_tensor(type, -1, 1, 4),
          scalar_tensor(dtype, 0.02),       scalar_tensor(dtype, grad_scale),
          scalar_tensor(dtype, 0.3),        scalar_tensor(dtype, 0.2)};
}

// In place as well, which the fixture does.
TEST_F(CudaAdamW, UpdatesAnySize) {
  for (int64_t n : {0, 1, 3, 4, 1027, 9001})
    EXPECT_TRUE(computes(ops::kAdamW, adamw_operands(DType::f32, n, 0.5), kOptions, "cuda.adamw"));
}

TEST_F(CudaAdamW, SkipsStepsThatWentBad) {
  for (double scale : {double{INFINITY}, -double{INFINITY}, double{NAN}})
    EXPECT_TRUE(
        computes(ops::kAdamW, adamw_operands(DType::f32, 1027, scale), kOptions, "cuda.adamw", 0));
}

TEST_F(CudaAdamW, LeavesF64ToTheHost) {
  EXPECT_TRUE(
      is_refused(ops::kAdamW, adamw_operands(DType::f64, 3, 1), kOptions, "compiled for f32"));
}

TEST_F(CudaSumOfSquares, IsWithinAMillionth) {
  for (int64_t n : {0, 1, 7, 1000, 16385, 100003})
    for (DType dtype : {DType::f32, DType::bf16})
      EXPECT_TRUE(computes(ops::kSumOfSquares, {uniform_tensor({dtype, {n}}, -3, 1)}, {},
                           "cuda.sum_of_squares", 1e-6));
}

TEST_F(CudaSumOfSquares, KeepsInfinitiesAndNaN) {
  for (double bad : {1e30, double{INFINITY}, double{NAN}}) {
    HostTensor x = uniform_tensor({DType::f32, {20000}}, -1, 1);
    x.set_real(12345, bad);
    EXPECT_TRUE(computes(ops::kSumOfSquares, {x}, {}, "cuda.sum_of_squares", 1e-6));
  }
}

TEST_F(CudaSumOfSquaresLong, IsWithinAMillionth) {
  for (DType dtype : {DType::f32, DType::bf16})
    EXPECT_TRUE(computes(ops::kSumOfSquares, {uniform_tensor({dtype, {30000001}}, -3, 1)}, {},
                         "cuda.sum_of_squares", 1e-6));
}

}  // namespace
}  // namespace tessera
