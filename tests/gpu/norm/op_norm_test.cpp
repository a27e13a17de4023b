#include <random>

#include "core/ops/norm.h"
#include "core/ops/residual_norm.h"
#include "core/ops/support.h"
#include "tests/gpu/device_testing.h"

namespace tessera {
namespace {

struct Types {
  DType x, weight;
};
constexpr Types kTypes[] = {{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};

// bf16: half a unit in the last place (2^-9) of y, and as much again where sums cancel; f32: 1e-5, and sums of a
// thousand terms.
KernelCheck check_of(const char* kernel, Types types) {
  KernelCheck check;
  check.kernel = kernel;
  check.tolerance = types.x == DType::bf16 ? 1.0 / 256 : 2e-5;
  return check;
}

// x in [-1, 2], so that means do not cancel: they are as exact as the elements are. Statistics are near theirs.
OpSample sample_of(int statistics, bool is_gradient, Types types, const Shape& shape, int weights) {
  const int64_t columns = shape[shape.rank() - 1];
  const Shape rows = ops::without_last(shape);
  OpSample sample;
  sample.operands = {{types.x, shape}};
  sample.ranges = {{-1, 2}};
  for (int w = 0; w < weights; ++w) {
    sample.operands.push_back({types.weight, {columns}});
    sample.ranges.push_back({0.5, 1.5});
  }
  for (int s = 0; s < statistics; ++s) {
    sample.operands.push_back({DType::f32, rows});
    sample.ranges.push_back(s + 1 < statistics ? std::pair{0.4, 0.6} : std::pair{1.0, 1.3});
  }
  if (is_gradient) {
    sample.operands.push_back({types.x, shape});
    sample.ranges.push_back({-1, 1});
  } else {
    sample.attributes.set(Attr::epsilon, 1e-5);
  }
  return sample;
}

class CudaNormTest : public DeviceTest {
 protected:
  static void check_all(const Shape& shape);
  static void check_with_residuals(Types types, const Shape& shape);
  static void check_sum(const OpDef& op, const char* kernel, Types types, const Shape& shape, int weights);
};
class CudaNormLong : public CudaNormTest {};

// The residual is operand 1 forwards, the last one backwards.
OpSample with_residual(OpSample sample, bool is_gradient) {
  const size_t at = is_gradient ? sample.operands.size() : 1;
  sample.operands.insert(sample.operands.begin() + static_cast<std::ptrdiff_t>(at), sample.operands[0]);
  sample.ranges.insert(sample.ranges.begin() + static_cast<std::ptrdiff_t>(at), {-0.5, 0.5});
  return sample;
}

// y is that of the rounded sum: evaluation in the operands' own types, whose other results are as exact as need be.
void CudaNormTest::check_sum(const OpDef& op, const char* kernel, Types types, const Shape& shape, int weights) {
  KernelCheck check = check_of(kernel, types);
  check.in_f64 = types.x == DType::f32;
  if (!check.in_f64) check.tolerance = 1.0 / 128;  // the reference rounds as well
  const CheckedKernel checked = check_kernel(op, with_residual(sample_of(0, false, types, shape, weights), false), check);
  EXPECT_EQ(checked.results.size(), weights + 2u);
}

void CudaNormTest::check_with_residuals(Types types, const Shape& shape) {
  check_sum(ops::kAddLayerNorm, "cuda.add_layer_norm", types, shape, 2);
  check_sum(ops::kAddRmsNorm, "cuda.add_rms_norm", types, shape, 1);
  check_kernel(ops::kLayerNormGradAdd, with_residual(sample_of(2, true, types, shape, 1), true),
               check_of("cuda.layer_norm_grad_add", types));
  check_kernel(ops::kRmsNormGradAdd, with_residual(sample_of(1, true, types, shape, 1), true),
               check_of("cuda.rms_norm_grad_add", types));
}

void CudaNormTest::check_all(const Shape& shape) {
  for (const Types types : kTypes) {
    SCOPED_TRACE(testing::Message() << types.x << " " << shape << " weights " << types.weight);
    check_kernel(ops::kLayerNorm, sample_of(0, false, types, shape, 2), check_of("cuda.layer_norm", types));
    check_kernel(ops::kLayerNormGrad, sample_of(2, true, types, shape, 1), check_of("cuda.layer_norm_grad", types));
    check_kernel(ops::kRmsNorm, sample_of(0, false, types, shape, 1), check_of("cuda.rms_norm", types));
    check_kernel(ops::kRmsNormGrad, sample_of(1, true, types, shape, 1), check_of("cuda.rms_norm_grad", types));
    // In software long rows take their time.
    if (shape[shape.rank() - 1] <= 1000 || types.x != types.weight) check_with_residuals(types, shape);
  }
}

// Warps that hold rows, blocks that do, rows by single elements.
TEST_F(CudaNormTest, Columns) {
  for (const int64_t columns : {1, 3, 33, 127, 256, 768, 1000})
    check_all({2, 5, columns});
}
TEST_F(CudaNormTest, LongColumns) {
  for (const int64_t columns : {2056, 4097})
    check_all({2, columns});
}

// No row: dgamma and dbeta are zeros. One, and more than one group of the gradient's with a last one that is short.
TEST_F(CudaNormTest, Rows) {
  for (const int64_t rows : {0, 1, 19})
    check_all({rows, 40});
}

// Too long to be held: 16384 columns and more, in whole packs and not.
TEST_F(CudaNormTest, RowsThatAreNotHeld) {
  for (const int64_t columns : {16392, 16385}) {
    const Shape shape{1, columns};
    for (const Types types : {kTypes[0], kTypes[2]}) {
      check_kernel(ops::kLayerNorm, sample_of(0, false, types, shape, 2), check_of("cuda.layer_norm", types));
      check_kernel(ops::kLayerNormGrad, sample_of(2, true, types, {2, columns}, 1),
                   check_of("cuda.layer_norm_grad", types));
    }
  }
}

// The sum is then read where it has been stored.
TEST_F(CudaNormTest, SumsThatAreNotHeld) {
  check_sum(ops::kAddLayerNorm, "cuda.add_layer_norm", kTypes[2], {1, 16392}, 2);
}

// A mean of 1000 beside deviations of 0.05 costs y no digits.
TEST_F(CudaNormTest, LargeOffset) {
  for (const int64_t columns : {127, 768, 1500}) {
    std::mt19937 generator(7);
    std::normal_distribution<double> normal(1000, 0.05);
    HostTensor x({DType::f32, {3, columns}});
    for (int64_t i = 0; i < x.elements(); ++i) x.set_real(i, normal(generator));
    const HostTensor ones = HostTensor::filled({DType::f32, {columns}}, 1),
                     zeros = HostTensor::filled({DType::f32, {columns}}, 0);
    const CheckedKernel checked =
        check_kernel(ops::kLayerNorm, {{Attr::epsilon, 1e-12}}, {x, ones, zeros}, {.kernel = "cuda.layer_norm", .tolerance = 2e-5});
    EXPECT_EQ(checked.results.size(), 3u);
  }
}

// Equal elements: variance 0, so rstd is that of epsilon and y is beta.
TEST_F(CudaNormTest, EqualElements) {
  const HostTensor x = HostTensor::filled({DType::bf16, {2, 96}}, 3.5), ones = HostTensor::filled({DType::f32, {96}}, 1),
                   beta = HostTensor::filled({DType::f32, {96}}, 0.25);
  check_kernel(ops::kLayerNorm, {{Attr::epsilon, 1e-5}}, {x, ones, beta}, {.kernel = "cuda.layer_norm"});
  check_kernel(ops::kRmsNorm, {{Attr::epsilon, 1e-5}}, {x, ones}, {.kernel = "cuda.rms_norm"});
}

TEST_F(CudaNormTest, WhatIsNotCompiledFallsToTheReference) {
  const Types wide{DType::f64, DType::f64}, mixed{DType::f32, DType::bf16};
  for (const Types types : {wide, mixed})
    EXPECT_EQ(chosen_kernel(ops::kLayerNorm, sample_of(0, false, types, {2, 8}, 2)).find("cuda.layer_norm"),
              std::string::npos);
}

// Sizes that fill a GPU.
TEST_F(CudaNormLong, ManyRows) {
  for (const int64_t columns : {768, 4096})
    check_all({8195, columns});
}

}  // namespace
}  // namespace tessera
