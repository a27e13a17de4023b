// What the stand-in of cuBLASLt refuses, as cuBLASLt does.
#include <cublasLt.h>

#include <algorithm>
#include <cmath>

#include "tests/soft_gpu/soft_testing.h"

namespace soft_gpu {
namespace {

// C = A B, column by column, all of 8 x 8 unless a test says otherwise.
class CublasLtTest : public SoftGpuTest {
 protected:
  void SetUp() override {
    SoftGpuTest::SetUp();
    ASSERT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{1} << 20);
    for (cublasLtMatrixLayout_t* layout : {&a_, &b_, &c_}) *layout = layout_of(CUDA_R_32F, 8, 8, 8);
  }
  void TearDown() override {
    for (const cublasLtMatrixLayout_t layout : {a_, b_, c_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(product_);
    cublasLtDestroy(handle_);
    SoftGpuTest::TearDown();
  }

  static cublasLtMatrixLayout_t layout_of(cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t layout;
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, rows, cols, ld), CUBLAS_STATUS_SUCCESS);
    return layout;
  }
  static void replace(cublasLtMatrixLayout_t& layout, cublasLtMatrixLayout_t by) {
    cublasLtMatrixLayoutDestroy(layout);
    layout = by;
  }
  template <typename T>
  void prefer(cublasLtMatmulPreferenceAttributes_t what, T value) {
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, what, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  std::vector<cublasLtMatmulHeuristicResult_t> proposals(cublasStatus_t want = CUBLAS_STATUS_SUCCESS) {
    std::vector<cublasLtMatmulHeuristicResult_t> all(16);
    int count = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, product_, a_, b_, c_, c_, preference_, 16, all.data(), &count),
              want);
    all.resize(static_cast<size_t>(count));
    return all;
  }
  cublasStatus_t multiply(const float* a, const float* b, float* c, const cublasLtMatmulAlgo_t* algorithm,
                          void* workspace = nullptr, size_t workspace_bytes = 0) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(handle_, product_, &one, a, a_, b, b_, &zero, c, c_, c, c_, algorithm, workspace,
                          workspace_bytes, nullptr);
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
};

TEST_F(CublasLtTest, OtherAlgorithmsAddInOtherOrders) {
  // Depth enough that splits of it round differently.
  replace(a_, layout_of(CUDA_R_32F, 8, 1024, 8));
  replace(b_, layout_of(CUDA_R_32F, 1024, 8, 1024));
  const DeviceArray<float> a(8 * 1024), b(8 * 1024), c(64), workspace(4096);
  std::vector<float> values(8 * 1024);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  ASSERT_EQ(cudaMemcpy(a.data(), values.data(), a.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(b.data(), values.data(), b.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  std::vector<std::vector<float>> results;
  for (const auto& proposal : proposals()) {
    c.set(NAN);
    ASSERT_EQ(multiply(a.data(), b.data(), c.data(), &proposal.algo, workspace.data(), workspace.bytes()),
              CUBLAS_STATUS_SUCCESS);
    results.push_back(c.get());
    ASSERT_EQ(multiply(a.data(), b.data(), c.data(), &proposal.algo, workspace.data(), workspace.bytes()),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(c.get(), results.back());
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(results.back()[i], results.front()[i], 1e-3);
  }
  ASSERT_GE(results.size(), 4u);
  EXPECT_TRUE(std::any_of(results.begin(), results.end(), [&](const auto& r) { return r != results.front(); }));
}

TEST_F(CublasLtTest, OperandsThatAreNotAsTheAlgorithmWantsThem) {
  const DeviceArray<float> a(65), b(64), c(64);
  const auto all = proposals();  // the first ones load 16 bytes at once
  const auto strict = *std::find_if(all.begin(), all.end(), [](const auto& p) { return p.workspaceSize > 0; });
  const DeviceArray<char> workspace(strict.workspaceSize + 16);
  const auto with = [&](const float* from, char* memory, size_t bytes) {
    return multiply(from, b.data(), c.data(), &strict.algo, memory, bytes);
  };
  EXPECT_EQ(with(a.data(), workspace.data(), workspace.bytes()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(with(a.data() + 1, workspace.data(), workspace.bytes()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(nullptr, workspace.data(), workspace.bytes()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(a.data(), workspace.data(), strict.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(a.data(), workspace.data() + 1, strict.workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with(a.data(), nullptr, workspace.bytes()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(multiply(a.data(), b.data(), c.data(), nullptr), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtTest, ProposalsKeepToThePreference) {
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  for (const auto& proposal : proposals()) EXPECT_EQ(proposal.workspaceSize, 0u);
  const size_t all = proposals().size();
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{4});
  EXPECT_LT(proposals().size(), all);
  const DeviceArray<float> a(64), b(65), c(64);
  EXPECT_EQ(multiply(a.data(), b.data() + 1, c.data(), &proposals().front().algo), CUBLAS_STATUS_SUCCESS);
}

TEST_F(CublasLtTest, AlgorithmsHoldForTheProductTheyWereProposedFor) {
  const auto proposal = proposals().front();
  cublasLtMatmulHeuristicResult_t result;
  const auto check = [&](const cublasLtMatmulAlgo_t& algorithm) {
    return cublasLtMatmulAlgoCheck(handle_, product_, a_, b_, c_, c_, &algorithm, &result);
  };
  EXPECT_EQ(check(proposal.algo), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(check({}), CUBLAS_STATUS_INVALID_VALUE);
  replace(b_, layout_of(CUDA_R_32F, 8, 8, 9));  // columns that are not 16 bytes apart
  EXPECT_EQ(check(proposal.algo), CUBLAS_STATUS_NOT_SUPPORTED);
  for (cublasLtMatrixLayout_t* layout : {&a_, &b_, &c_}) replace(*layout, layout_of(CUDA_R_16BF, 8, 8, 8));
  EXPECT_EQ(check(proposal.algo), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtTest, ProductsThatAreNone) {
  replace(b_, layout_of(CUDA_R_32F, 7, 8, 8));  // depths differ
  EXPECT_TRUE(proposals(CUBLAS_STATUS_INVALID_VALUE).empty());
  replace(b_, layout_of(CUDA_R_32F, 8, 8, 7));  // columns overlap
  EXPECT_TRUE(proposals(CUBLAS_STATUS_INVALID_VALUE).empty());
  replace(b_, layout_of(CUDA_R_16BF, 8, 8, 8));  // f32 times bf16
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());
  replace(b_, layout_of(CUDA_R_32F, 8, 8, 8));
  EXPECT_FALSE(proposals().empty());
  const cublasLtEpilogue_t gelu = CUBLASLT_EPILOGUE_GELU;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(product_, CUBLASLT_MATMUL_DESC_EPILOGUE, &gelu, 2),
            CUBLAS_STATUS_INVALID_VALUE);  // the value's size is wrong
}

TEST_F(CublasLtTest, EpiloguesWantTheirPointersAndLeadingDimensions) {
  const auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(product_, what, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  };
  const DeviceArray<float> bias(8), aux(64), a(64), b(64), c(64);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
  EXPECT_TRUE(proposals(CUBLAS_STATUS_INVALID_VALUE).empty());  // no pointers
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data());
  EXPECT_TRUE(proposals(CUBLAS_STATUS_INVALID_VALUE).empty());  // no leading dimension
  for (const int64_t wrong : {7, 12, 4}) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, wrong);
    EXPECT_TRUE(proposals(CUBLAS_STATUS_INVALID_VALUE).empty());
  }
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{8});
  ASSERT_FALSE(proposals().empty());

  a.set(1), b.set(0.25f), bias.set(-1), c.set(NAN), aux.set(NAN);
  ASSERT_EQ(multiply(a.data(), b.data(), c.data(), &proposals().back().algo), CUBLAS_STATUS_SUCCESS);
  for (const float x : aux.get()) EXPECT_EQ(x, 1);
  for (const float y : c.get()) EXPECT_NEAR(y, 0.841192f, 1e-6f);  // GELU of 1, by tanh

  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data() + 1);
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU);  // which nobody has asked the stand-in for
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());
}

TEST_F(CublasLtTest, F8MatricesAreAsHopperWantsThem) {
  const auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(product_, what, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  };
  replace(a_, layout_of(CUDA_R_8F_E4M3, 32, 16, 32));
  replace(b_, layout_of(CUDA_R_8F_E5M2, 32, 16, 32));
  replace(c_, layout_of(CUDA_R_32F, 16, 16, 16));
  set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
  ASSERT_FALSE(proposals().empty());
  const DeviceArray<uint8_t> a(512), b(512);
  const DeviceArray<float> c(256), left(1), right(1);
  std::vector<uint8_t> codes(512, 0x38);  // 1 in e4m3
  ASSERT_EQ(cudaMemcpy(a.data(), codes.data(), a.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  codes.assign(512, 0x41);  // 2.5 in e5m2
  ASSERT_EQ(cudaMemcpy(b.data(), codes.data(), b.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  left.set(0.5f), right.set(-0.25f);
  const auto result = [&] {
    const float one = 1, zero = 0;
    c.set(NAN);
    EXPECT_EQ(cublasLtMatmul(handle_, product_, &one, a.data(), a_, b.data(), b_, &zero, c.data(), c_, c.data(), c_,
                             &proposals().back().algo, nullptr, 0, nullptr),
              CUBLAS_STATUS_SUCCESS);
    return c.get()[17];
  };
  EXPECT_EQ(result(), 32 * 2.5f);
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(left.data()));
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(right.data()));
  EXPECT_EQ(result(), 32 * 2.5f * 0.5f * -0.25f);

  set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_N});
  replace(a_, layout_of(CUDA_R_8F_E4M3, 16, 32, 16));
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());  // not "TN"
  set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
  replace(a_, layout_of(CUDA_R_8F_E5M2, 32, 16, 32));
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());  // e5m2 twice
  replace(a_, layout_of(CUDA_R_8F_E4M3, 24, 16, 32));
  replace(b_, layout_of(CUDA_R_8F_E4M3, 24, 16, 32));
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());  // a depth of 24
  replace(a_, layout_of(CUDA_R_32F, 32, 16, 32));
  replace(b_, layout_of(CUDA_R_32F, 32, 16, 32));
  EXPECT_TRUE(proposals(CUBLAS_STATUS_NOT_SUPPORTED).empty());  // scales of f32
}

}  // namespace
}  // namespace soft_gpu
