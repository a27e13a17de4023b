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

// Tensors of several sizes, none, odd and of several pieces; more than one table of parameters holds.
TEST_F(CudaAdamW, UpdatesManyTensors) {
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{5, 0, 4096, 9001, 1}, std::vector<int64_t>(400, 3)}) {
    std::vector<HostTensor> operands;
    std::vector<double> decays;
    for (const int64_t n : sizes) {
      const std::vector<HostTensor> own = adamw_operands(DType::f32, n, 0.5);
      operands.insert(operands.end(), own.begin(), own.begin() + 4);
      decays.push_back(0.01 * static_cast<double>(decays.size() % 7));
    }
    const std::vector<HostTensor> own = adamw_operands(DType::f32, 0, 0.5);
    operands.insert(operands.end(), own.begin() + 4, own.end());
    const int64_t count = static_cast<int64_t>(decays.size());
    const Attributes options{
        {Attr::beta1, 0.9}, {Attr::beta2, 0.95}, {Attr::epsilon, 1e-8},
        {Attr::weight_decays, std::make_shared<const HostTensor>(HostTensor::of<double>({count}, decays))}};
    EXPECT_TRUE(computes(ops::kMultiAdamW, operands, options, "cuda.multi_adamw"));
  }
}

// States in bf16, of a whole tensor and of shards: to nearest, and as the reference draws.
TEST_F(CudaAdamW, RoundsStatesOfBf16) {
  for (const auto& [param, moments] :
       {std::pair{DType::f32, DType::bf16}, {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}})
    for (const int64_t columns : {0, 1, 64, 61}) {
      const auto random = [&](DType dtype, double low, unsigned seed) {
        return uniform_tensor({dtype, {40, columns}}, low, 1, seed);
      };
      std::vector<HostTensor> operands = {random(param, -1, 1), random(moments, -1, 2), random(moments, 0.01, 3),
                                          random(DType::f32, -1, 4)};
      for (double value : {0.02, 0.5, 0.3, 0.2}) operands.push_back(scalar_tensor(DType::f32, value));
      EXPECT_TRUE(computes(ops::kAdamW, operands, kOptions, "cuda.adamw"));
      Attributes options = kOptions;
      options.set(Attr::seed, int64_t{5});
      options.set(Attr::seed_site, int64_t{77});
      options.set(Attr::strides, Ints{2 * columns, 1});
      operands.push_back(scalar_tensor(DType::s64, 1234));
      if (columns > 1)
        for (int64_t start : {int64_t{40}, columns}) operands.push_back(scalar_tensor(DType::s64, static_cast<double>(start)));
      const CheckedKernel made = check_kernel(ops::kAdamW, options, operands, {.kernel = "cuda.adamw", .in_f64 = false});
      std::vector<TensorType> types;
      std::vector<const HostTensor*> pointers;
      for (const HostTensor& operand : operands) {
        types.push_back(operand.type());
        pointers.push_back(&operand);
      }
      std::vector<HostTensor> want;
      for (const HostTensor& result : made.results) want.emplace_back(result.type());
      ops::kAdamW.eval({types, options}, pointers, want);
      for (size_t r = 0; r < want.size(); ++r) {
        int64_t differing = 0;
        for (int64_t i = 0; i < want[r].elements(); ++i) differing += want[r].get_real(i) != made.results[r].get_real(i);
        EXPECT_LE(differing, want[r].dtype() == DType::bf16 ? 3 : want[r].elements()) << "result " << r;
      }
    }
}

TEST_F(CudaAdamW, LeavesF64ToTheHost) {
  EXPECT_TRUE(
      is_refused(ops::kAdamW, adamw_operands(DType::f64, 3, 1), kOptions, "gradients in f32"));
}

TEST_F(CudaSumOfSquares, IsWithinAMillionth) {
  for (int64_t n : {0, 1, 7, 1000, 16385, 100003})
    for (DType dtype : {DType::f32, DType::bf16})
      EXPECT_TRUE(computes(ops::kSumOfSquares, {uniform_tensor({dtype, {n}}, -3, 1)}, {},
                           "cuda.sum_of_squares", 1e-6));
}

// With the bits that each has alone.
TEST_F(CudaSumOfSquares, OfManyTensors) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    std::vector<HostTensor> operands;
    for (int64_t n : {0, 1, 40000, 7, 16385, 3, 3, 3, 3, 3})
      operands.push_back(uniform_tensor({dtype, {n}}, -3, 1, static_cast<unsigned>(operands.size() + 1)));
    const auto all = check_kernel(ops::kMultiSumOfSquares, {}, operands,
                                  {.kernel = "cuda.multi_sum_of_squares", .tolerance = 1e-6});
    for (size_t i = 0; i < operands.size(); ++i) {
      const auto one = check_kernel(ops::kSumOfSquares, {}, {operands[i]}, {.kernel = "cuda.sum_of_squares", .tolerance = 1e-6});
      EXPECT_EQ(all.results[i], one.results[0]);
    }
  }
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
