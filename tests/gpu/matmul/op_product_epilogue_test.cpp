// Products with their epilogues, against eval in f64: those that cuBLASLt does, and those that it leaves to us.
#include "core/ops/product_epilogue.h"

#include <gtest/gtest.h>

#include "core/base/strings.h"
#include "tests/gpu/matmul/product_run.h"

namespace tessera {
namespace {

using ops::DotDims;

struct EpilogueCase {
  const OpDef* op;
  const char* kernel;
  bool adds = false;  // of dot_general_bias_grad: into an accumulator
};
constexpr EpilogueCase kBias{&ops::kDotGeneralBias, "cuda.cublaslt_bias"};
constexpr EpilogueCase kBiasGelu{&ops::kDotGeneralBiasGelu, "cuda.cublaslt_bias_gelu"};
constexpr EpilogueCase kGeluGrad{&ops::kDotGeneralGeluGrad, "cuda.cublaslt_gelu_grad"};
constexpr EpilogueCase kBiasGrad{&ops::kDotGeneralBiasGrad, "cuda.cublaslt_bias_grad"};
constexpr EpilogueCase kBiasGradAdds{&ops::kDotGeneralBiasGrad, "cuda.cublaslt_bias_grad", true};

// The op on a product of these operands.
OpSample sample_of(const EpilogueCase& what, DType in, const Shape& lhs, const Shape& rhs, const DotDims& dims,
                   std::optional<DType> out = {}) {
  OpSample sample{{{in, lhs}, {in, rhs}}, attributes_of(dims, out)};
  const TensorType product = infer_types(ops::kDotGeneral, {sample.operands, sample.attributes})[0];
  TensorType bias{product.dtype, {}};
  const int free = static_cast<int>(rhs.rank()) - static_cast<int>(dims.rhs_contracting.size());
  for (int d = product.rank() - free; d < product.rank(); ++d) bias.shape.push_back(product.shape[d]);
  if (what.op == &ops::kDotGeneralBias || what.op == &ops::kDotGeneralBiasGelu) sample.operands.push_back(bias);
  if (what.op == &ops::kDotGeneralGeluGrad || what.adds) sample.operands.push_back(product);
  if (what.op == &ops::kDotGeneralGeluGrad) sample.ranges = {{-1, 1}, {-1, 1}, {-4, 4}};
  return sample;
}

using ProductEpilogue = DeviceTest;
using ProductEpilogueLong = DeviceTest;

TEST_F(ProductEpilogue, Biases) {
  for (const auto& [m, n, k] : {std::tuple{16, 32, 24}, {17, 31, 23}, {1, 40, 16}, {40, 1, 16}, {8, 8, 1}})
    for (const auto& [in, out] : {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}})
      for (const bool transposed : {false, true})
        check_kernel(*kBias.op,
                     transposed ? sample_of(kBias, in, {k, m}, {n, k}, {{0}, {1}}, out)
                                : sample_of(kBias, in, {m, k}, {k, n}, {{1}, {0}}, out),
                     {.kernel = kBias.kernel});
}

TEST_F(ProductEpilogue, GeluKeepsWhatItsGradientReads) {
  for (const auto& [m, n, k] : {std::tuple{16, 32, 24}, {17, 40, 23}, {1, 8, 16}, {5, 24, 1}}) {
    check_kernel(*kBiasGelu.op, sample_of(kBiasGelu, DType::bf16, {m, k}, {k, n}, {{1}, {0}}),
                 {.kernel = kBiasGelu.kernel});
    check_kernel(*kGeluGrad.op, sample_of(kGeluGrad, DType::bf16, {m, k}, {n, k}, {{1}, {1}}),
                 {.kernel = kGeluGrad.kernel});
  }
}

TEST_F(ProductEpilogue, SumsOfABiasGradientAreAsWideAsTheProduct) {
  for (const EpilogueCase& what : {kBiasGrad, kBiasGradAdds})
    for (const auto& [m, n, k] : {std::tuple{16, 32, 24}, {17, 31, 45}, {3, 1, 70}, {1, 9, 1}})
      for (const auto& [in, out] :
           {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}}) {
        const CheckedKernel checked =
            check_kernel(*what.op, sample_of(what, in, {k, m}, {k, n}, {{0}, {0}}, out),
                         {.kernel = what.kernel, .tolerance = out == DType::f32 ? std::optional(1e-5) : std::nullopt});
        EXPECT_EQ(checked.results[1].dtype(), out);
      }
}

// As a GPT's layers have them: batch and length in front, heads and what they hold behind.
TEST_F(ProductEpilogue, SeveralDims) {
  check_kernel(*kBias.op, sample_of(kBias, DType::bf16, {2, 6, 16}, {16, 3, 4}, {{2}, {0}}), {.kernel = kBias.kernel});
  check_kernel(*kBias.op, sample_of(kBias, DType::f32, {2, 6, 3, 4}, {3, 4, 16}, {{2, 3}, {0, 1}}),
               {.kernel = kBias.kernel});
  check_kernel(*kBiasGradAdds.op,
               sample_of(kBiasGradAdds, DType::bf16, {2, 6, 16}, {2, 6, 3, 4}, {{0, 1}, {0, 1}}, DType::f32),
               {.kernel = kBiasGrad.kernel, .tolerance = 1e-5});
  // The left side is copied first.
  check_kernel(*kBias.op, sample_of(kBias, DType::f32, {5, 2, 7, 3}, {5, 7, 6}, {{0, 2}, {0, 1}}),
               {.kernel = kBias.kernel});
  check_kernel(*kBiasGrad.op, sample_of(kBiasGrad, DType::f32, {5, 2, 7, 3}, {5, 7, 6}, {{0, 2}, {0, 1}}),
               {.kernel = kBiasGrad.kernel});
}

TEST_F(ProductEpilogue, SaysWhatItDoesNotTake) {
  const auto refusals = [](const EpilogueCase& what, const OpSample& sample) {
    const OpCall call{sample.operands, sample.attributes};
    const auto choice = plugin().kernels().choose(*what.op, call, infer_types(*what.op, call));
    EXPECT_TRUE(choice.kernel->is_reference);
    return join(choice.refusals);
  };
  const DotDims plain{{1}, {0}};
  EXPECT_NE(refusals(kBiasGelu, sample_of(kBiasGelu, DType::f32, {4, 8}, {8, 16}, plain)).find("not in f32"),
            std::string::npos);
  EXPECT_NE(refusals(kGeluGrad, sample_of(kGeluGrad, DType::bf16, {4, 8}, {8, 12}, plain)).find("multiple of 8"),
            std::string::npos);
  EXPECT_NE(refusals(kBias, sample_of(kBias, DType::f64, {4, 8}, {8, 16}, plain)).find("f64"), std::string::npos);
  EXPECT_NE(refusals(kBias, sample_of(kBias, DType::f32, {4, 0}, {0, 16}, plain)).find("4 x 16 x 0"),
            std::string::npos);
  EXPECT_NE(refusals(kBiasGrad, sample_of(kBiasGrad, DType::f32, {4, 8}, {16, 8}, {{1}, {1}})).find("rows"),
            std::string::npos);
}

// ---- By kernels behind the product -----------------------------------------------------------------------

struct EpilogueSample {
  EpilogueCase what;
  OpSample sample;
};
std::vector<EpilogueSample> epilogue_samples() {
  const DotDims plain{{1}, {0}}, over_rows{{0}, {0}};
  return {{kBias, sample_of(kBias, DType::f32, {6, 16}, {16, 24}, plain)},
          {kBias, sample_of(kBias, DType::bf16, {6, 16}, {16, 24}, plain)},
          {kBias, sample_of(kBias, DType::bf16, {40, 16}, {16, 264}, plain)},
          {kBias, sample_of(kBias, DType::bf16, {6, 16}, {16, 24}, plain, DType::f32)},
          {kBiasGelu, sample_of(kBiasGelu, DType::bf16, {6, 16}, {16, 24}, plain)},
          {kGeluGrad, sample_of(kGeluGrad, DType::bf16, {6, 16}, {16, 24}, plain)},
          {kBiasGrad, sample_of(kBiasGrad, DType::f32, {16, 6}, {16, 24}, over_rows)},
          {kBiasGrad, sample_of(kBiasGrad, DType::bf16, {16, 6}, {16, 24}, over_rows)},
          {kBiasGradAdds, sample_of(kBiasGradAdds, DType::bf16, {16, 6}, {16, 24}, over_rows, DType::f32)}};
}

// Prepared and run on `backend`, and compared with eval in f64.
void check_on(Backend& backend, const EpilogueSample& it, ProductOptions options = {}) {
  const std::vector<HostTensor> operands = normal_tensors(it.sample.operands);
  const std::vector<HostTensor> want = evaluated_in_f64(*it.what.op, it.sample.attributes, operands);
  const std::vector<HostTensor> got = results_on(backend, *it.what.op, it.sample.attributes, operands, options);
  // The product is rounded before the epilogue, too.
  for (size_t r = 0; r < want.size(); ++r)
    EXPECT_LE(max_relative_error(got[r], want[r], 4), got[r].dtype() == DType::bf16 ? 0x1p-6 : 1e-5) << "result " << r;
}

// Of kernels behind products, where they are counted.
long epilogues_behind() {
  return kernel_launches("epilogue_kernel").value_or(0) + kernel_launches("reduce_").value_or(0);
}

// cuBLASLt may have no algorithm then; the software GPU's has none.
TEST_F(ProductEpilogue, AlignedToAnElementOnly) {
  for (const EpilogueSample& it : epilogue_samples()) {
    SCOPED_TRACE(testing::Message() << it.what.op->name << " " << it.sample.operands[0]);
    check_on(backend(), it, {.unaligned = true});
  }
}

// The choice that timing makes where cuBLASLt is faster without the epilogue, with its algorithm for the product alone.
TEST_F(ProductEpilogue, ChosenToBeBehind) {
  const auto value_at = [](const std::string& text, size_t equals) {
    const size_t begin = equals + 3;
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  for (const EpilogueSample& it : epilogue_samples()) {
    SCOPED_TRACE(testing::Message() << it.what.op->name << " " << it.sample.operands[0]);
    const std::vector<HostTensor> values = normal_tensors(it.sample.operands);
    const auto first = plugin().create_backend({});
    if (it.what.adds)
      (void)product_on(*first, ops::kDotGeneralAdd, it.sample.attributes, {values[2], values[0], values[1]});
    else
      (void)product_on(*first, ops::kDotGeneral, it.sample.attributes, {values[0], values[1]});
    const long before = epilogues_behind();
    check_on(*first, it);
    EXPECT_EQ(epilogues_behind(), before);
    std::string text = plugin().choices(*first);
    const std::string alone = value_at(text, text.find(" = "));
    const size_t equals = text.find(" = ", text.find(" epilogue "));
    ASSERT_NE(equals, std::string::npos) << text;
    text.replace(equals + 3, value_at(text, equals).size(), "behind " + alone);
    const auto second = plugin().create_backend({});
    plugin().adopt_choices(*second, text);
    check_on(*second, it);
    if (kernel_launches("")) {
      EXPECT_GT(epilogues_behind(), before);
    }
    EXPECT_EQ(plugin().choices(*second), text);
  }
}

TEST_F(ProductEpilogue, TheirChoicesAreKept) {
  const auto first = plugin().create_backend({.autotune = true});
  const OpSample sample = sample_of(kBiasGelu, DType::bf16, {32, 64}, {64, 48}, {{1}, {0}});
  const auto run = [&](Backend& backend) {
    return results_on(backend, *kBiasGelu.op, sample.attributes, normal_tensors(sample.operands));
  };
  const std::vector<HostTensor> result = run(*first);
  const std::string text = plugin().choices(*first);
  EXPECT_NE(text.find(" epilogue bias_gelu aligned 64,64 = "), std::string::npos) << text;
  const auto second = plugin().create_backend({});
  plugin().adopt_choices(*second, text);
  EXPECT_EQ(run(*second), result);
  EXPECT_EQ(plugin().choices(*second), text);
}

TEST_F(ProductEpilogueLong, AGptLayer) {
  const Shape x{2, 1024, 768}, hidden{2, 1024, 3072};
  check_kernel(*kBiasGelu.op, sample_of(kBiasGelu, DType::bf16, x, {768, 3072}, {{2}, {0}}),
               {.kernel = kBiasGelu.kernel});
  check_kernel(*kGeluGrad.op, sample_of(kGeluGrad, DType::bf16, x, {3072, 768}, {{2}, {1}}),
               {.kernel = kGeluGrad.kernel});
  check_kernel(*kBiasGradAdds.op, sample_of(kBiasGradAdds, DType::bf16, x, hidden, {{0, 1}, {0, 1}}, DType::f32),
               {.kernel = kBiasGrad.kernel, .tolerance = 1e-4});
}

}  // namespace
}  // namespace tessera
