// Products of f8 operands and what quantizing takes, against eval in f64: by cuBLASLt's f8 matrix units where the
// sides are multiples of 16, and widened elsewhere.
#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "core/ops/elementwise.h"
#include "core/ops/elementwise_bits.h"
#include "core/ops/max_abs.h"
#include "core/ops/scaled_product.h"
#include "core/types/narrow_float.h"
#include "tests/gpu/matmul/product_run.h"

namespace tessera {
namespace {

using ops::DotDims;

constexpr DType kE4m3 = DType::f8e4m3fn, kE5m2 = DType::f8e5m2;

// Codes are multiplied as they are and summed in f32.
constexpr double kSum = 1e-5;

OpSample product(DType lhs_type, const Shape& lhs, DType rhs_type, const Shape& rhs, const DotDims& dims,
                 DType out = DType::f32) {
  return {{{lhs_type, lhs}, {rhs_type, rhs}}, attributes_of(dims, out)};
}

OpSample scaled(OpSample sample, bool biased = false) {
  const TensorType result = infer_types(ops::kDotGeneral, {sample.operands, sample.attributes})[0];
  const Shape rhs = sample.operands[1].shape;
  sample.operands.insert(sample.operands.end(), 2, TensorType{DType::f32, {}});
  sample.ranges = {{-1, 1}, {-1, 1}, {0.5, 2}, {0.5, 2}};
  if (!biased) return sample;
  const int free = rhs.rank() - static_cast<int>(sample.attributes.ints(Attr::rhs_contracting).size());
  TensorType bias{result.dtype, {}};
  for (int d = result.rank() - free; d < result.rank(); ++d) bias.shape.push_back(result.shape[d]);
  sample.operands.push_back(bias);
  return sample;
}

OpSample into_accumulator(OpSample sample) {
  sample = scaled(sample);
  OpCall product{std::span(sample.operands).first(2), sample.attributes};
  sample.operands.push_back(infer_types(ops::kDotGeneral, product)[0]);
  return sample;
}

using Fp8 = DeviceTest;

// As a linear layer has them: forward, the gradient of x, that of w; each with its transposes.
TEST_F(Fp8, ProductsOfALayer) {
  const OpSample forward = product(kE4m3, {2, 16, 32}, kE4m3, {32, 3, 16}, {{2}, {0}}),
                 of_x = product(kE5m2, {2, 16, 3, 16}, kE4m3, {32, 3, 16}, {{2, 3}, {1, 2}}),
                 of_w = product(kE4m3, {2, 16, 32}, kE5m2, {2, 16, 3, 16}, {{0, 1}, {0, 1}});
  for (const OpSample& sample : {forward, of_x, of_w}) {
    check_kernel(ops::kDotGeneral, sample, {.kernel = "cuda.cublaslt", .tolerance = kSum, .in_f64 = false});
    check_kernel(ops::kScaledDotGeneral, scaled(sample),
                 {.kernel = "cuda.cublaslt_scaled", .tolerance = kSum, .in_f64 = false});
    OpSample narrow = sample;
    narrow.attributes.set(Attr::dtype, DType::bf16);
    for (const bool biased : {false, true})
      check_kernel(ops::kScaledDotGeneral, scaled(narrow, biased),
                   {.kernel = "cuda.cublaslt_scaled", .tolerance = 0x1p-7, .in_f64 = false});
    check_kernel(ops::kScaledDotGeneralGelu, scaled(narrow, /*biased=*/true),
                 {.kernel = "cuda.cublaslt_scaled_gelu", .tolerance = 0x1p-7, .in_f64 = false});
    check_kernel(ops::kScaledDotGeneralAdd, into_accumulator(sample),
                 {.kernel = "cuda.cublaslt_scaled_add", .tolerance = kSum, .in_f64 = false});
    check_kernel(ops::kScaledDotGeneralAdd, into_accumulator(narrow),
                 {.kernel = "cuda.cublaslt_scaled_add", .tolerance = 0x1p-7, .in_f64 = false});
  }
}

// The op's results on the device against its evaluation on the same operands.
void check_results(Backend& backend, const OpDef& op, const OpSample& sample, ProductOptions options,
                   double tolerance) {
  const std::vector<HostTensor> operands = normal_tensors(sample.operands);
  const std::vector<HostTensor> expected = evaluated(op, sample.attributes, operands);
  const std::vector<HostTensor> got = results_on(backend, op, sample.attributes, operands, options);
  for (size_t r = 0; r < expected.size(); ++r)
    EXPECT_LE(max_relative_error(got[r], expected[r], 4), tolerance) << op.name << ", result " << r;
}

TEST_F(Fp8, AccumulatorsAreWrittenOver) {
  for (const DType out : {DType::f32, DType::bf16}) {
    const OpSample sample = into_accumulator(product(kE4m3, {2, 16, 32}, kE5m2, {2, 16, 48}, {{0, 1}, {0, 1}}, out));
    check_results(backend(), ops::kScaledDotGeneralAdd, sample, {.in_place = true},
                  out == DType::f32 ? kSum : 0x1p-7);
  }
}

// cuBLASLt may have no algorithm then (the software GPU's has none): a kernel of its own adds it.
TEST_F(Fp8, ABiasAlignedToAnElementOnly) {
  const OpSample sample = scaled(product(kE4m3, {32, 48}, kE4m3, {48, 16}, {{1}, {0}}, DType::bf16), /*biased=*/true);
  for (const OpDef* op : {&ops::kScaledDotGeneral, &ops::kScaledDotGeneralGelu})
    check_results(backend(), *op, sample, {.unaligned_last = true}, 0x1p-6);
}

TEST_F(Fp8, BothSidesInBothOrders) {
  for (const bool left : {false, true})
    for (const bool right : {false, true})
      check_kernel(ops::kDotGeneral,
                   product(kE4m3, left ? Shape{48, 16} : Shape{16, 48}, kE5m2, right ? Shape{32, 48} : Shape{48, 32},
                           {{left ? 0 : 1}, {right ? 1 : 0}}),
                   {.kernel = "cuda.cublaslt", .tolerance = kSum, .in_f64 = false});
  // A batch, whose sides are transposed one by one; dims that do not lie as one.
  check_kernel(ops::kDotGeneral, product(kE4m3, {3, 16, 32}, kE4m3, {3, 32, 16}, {{2}, {1}, {0}, {0}}),
               {.kernel = "cuda.cublaslt", .tolerance = kSum, .in_f64 = false});
  check_kernel(ops::kDotGeneral, product(kE4m3, {4, 16, 8}, kE4m3, {8, 16, 4}, {{0, 2}, {2, 0}}),
               {.kernel = "cuda.cublaslt", .tolerance = kSum, .in_f64 = false});
}

TEST_F(Fp8, OtherSizesAndFormatsAreWidened) {
  for (const auto& [m, n, k] : {std::tuple{17, 31, 23}, {16, 16, 24}, {1, 40, 16}, {8, 8, 1}, {3, 2, 0}})
    for (const auto& [left, right] : {std::pair{kE4m3, kE4m3}, {kE5m2, kE4m3}, {kE4m3, kE5m2}})
      check_kernel(ops::kDotGeneral, product(left, {m, k}, right, {k, n}, {{1}, {0}}),
                   {.kernel = "cuda.cublaslt_widened", .tolerance = kSum, .in_f64 = false});
  check_kernel(ops::kDotGeneral, product(kE5m2, {16, 32}, kE5m2, {32, 16}, {{1}, {0}}),
               {.kernel = "cuda.cublaslt_widened", .tolerance = kSum, .in_f64 = false});
}

TEST_F(Fp8, SaysWhatItDoesNotTake) {
  const auto refusals = [](const OpDef& op, const OpSample& sample) {
    const OpCall call{sample.operands, sample.attributes};
    const auto choice = plugin().kernels().choose(op, call, infer_types(op, call));
    return join(choice.refusals);
  };
  const DotDims plain{{1}, {0}};
  const auto odd = product(kE4m3, {16, 24}, kE4m3, {24, 16}, plain);
  EXPECT_NE(refusals(ops::kDotGeneral, odd).find("16 x 16 x 24"), std::string::npos);
  EXPECT_NE(refusals(ops::kScaledDotGeneral, scaled(odd)).find("multiples of 16"), std::string::npos);
  const auto twice = product(kE5m2, {16, 16}, kE5m2, {16, 16}, plain);
  EXPECT_NE(refusals(ops::kScaledDotGeneral, scaled(twice)).find("two e5m2"), std::string::npos);
  const auto wide = product(kE4m3, {16, 16}, kE4m3, {16, 16}, plain);
  EXPECT_NE(refusals(ops::kScaledDotGeneral, scaled(wide, true)).find("bias"), std::string::npos);
  EXPECT_NE(refusals(ops::kScaledDotGeneralGelu, scaled(wide, true)).find("bias"), std::string::npos);
}

// All codes, through the kernel that widens them: by a product with the unit matrix.
TEST_F(Fp8, EveryCodeIsWidenedExactly) {
  for (const DType format : {kE4m3, kE5m2}) {
    HostTensor codes({format, {1, 255}}), one({kE5m2, {255, 255}});
    for (int64_t i = 0; i < 255; ++i) {
      codes.bytes()[static_cast<size_t>(i)] = static_cast<std::byte>(i);
      if (!std::isfinite(codes.get_real(i))) codes.bytes()[static_cast<size_t>(i)] = std::byte{1};
      one.set_real(i * 256, 1);
    }
    check_kernel(ops::kDotGeneral, attributes_of({{1}, {0}}, DType::f32), {codes, one},
                 {.kernel = "cuda.cublaslt_widened", .tolerance = 0, .in_f64 = false});
  }
}

// Conversions in generated kernels: all codes to floats; to codes what lies at them, halfway, and just beside.
template <typename F8>
void collect(std::vector<float>& values) {
  for (int code = 0; code < 0x7f; ++code) {
    F8 a, b;
    a.bits = static_cast<uint8_t>(code), b.bits = static_cast<uint8_t>(code + 1);
    const float x = a, y = b, middle = (x + y) / 2;
    if (!std::isfinite(middle)) continue;
    for (const float value : {x, middle})
      for (const float to : {-INFINITY, value, INFINITY}) values.push_back(std::nextafter(value, to));
  }
}

TEST_F(Fp8, GeneratedConversions) {
  std::vector<float> values = {INFINITY, NAN, 448, 464, 480, 57344, 61440, 65536, 3e38f, 1e-45f};
  collect<float8_e4m3fn>(values);
  collect<float8_e5m2>(values);
  for (const float edge : {464.0f, 61440.0f})
    for (const float to : {-INFINITY, INFINITY}) values.push_back(std::nextafter(edge, to));
  for (size_t i = 0, all = values.size(); i < all; ++i) values.push_back(-values[i]);
  const HostTensor floats = HostTensor::of<float>({static_cast<int64_t>(values.size())}, values);
  for (const DType format : {kE4m3, kE5m2}) {
    HostTensor codes({format, {256}});
    for (size_t i = 0; i < 256; ++i) codes.bytes()[i] = static_cast<std::byte>(i);
    for (const DType wide : {DType::f32, DType::bf16}) {
      check_kernel(ops::kConvert, {{Attr::dtype, format}}, {floats.cast(wide)},
                   {.kernel = "cuda.convert", .tolerance = 0, .in_f64 = false});
      check_kernel(ops::kConvert, {{Attr::dtype, wide}}, {codes},
                   {.kernel = "cuda.convert", .tolerance = 0, .in_f64 = false});
    }
  }
}

TEST_F(Fp8, MaxAbs) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{17}, Shape{300, 401}})
      check_kernel(ops::kMaxAbs, {{{dtype, shape}}, {}, {{-3, 2}}}, {.kernel = "cuda.max_abs", .tolerance = 0});
  for (const double value : {-HUGE_VAL, std::nan("")}) {
    HostTensor special({DType::bf16, {40000}});
    special.set_real(30000, value);
    check_kernel(ops::kMaxAbs, {}, {special}, {.kernel = "cuda.max_abs", .tolerance = 0});
  }
}

}  // namespace
}  // namespace tessera
