#include "kernels/cuda/matmul/matmul_plan.h"

#include "core/base/error.h"
#include "kernels/cuda/matmul/check.h"
#include "kernels/cuda/matmul/epilogue.h"

namespace tessera::cuda {
namespace {

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    case DType::f8e4m3fn:
      return CUDA_R_8F_E4M3;
    case DType::f8e5m2:
      return CUDA_R_8F_E5M2;
    case DType::f32:
      return CUDA_R_32F;
    default:
      TESSERA_CHECK(dtype == DType::f64, "no matrix products of ", dtype);
      return CUDA_R_64F;
  }
}

// Narrow floats are multiplied exactly and summed in f32.
cublasComputeType_t compute_type(const MatmulProblem& problem) {
  if (problem.left_type == DType::f64) return CUBLAS_COMPUTE_64F;
  return problem.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

template <typename Value>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, Value value) {
  check(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)), "describing a product");
}
template <typename Value>
void set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, Value value) {
  check(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof(value)), "describing a matrix");
}
template <typename Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), "limiting algorithms");
}

// What stands for rows of ours are columns of cuBLASLt's, so our columns' bias is that of its rows, and our right
// side its A.
cublasLtEpilogue_t epilogue_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::bias_gelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::gelu_grad:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::bias_grad:
      return CUBLASLT_EPILOGUE_BGRADA;
    case Epilogue::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// An address that is aligned to `bytes` and no better.
void* address_aligned_to(int bytes) { return reinterpret_cast<void*>(static_cast<uintptr_t>(bytes)); }

}  // namespace

MatmulPlan::Layout MatmulPlan::layout(DType dtype, int64_t rows, int64_t columns, bool transposed, int64_t leading,
                                      int64_t stride) const {
  // Stored rows of ours are columns to cuBLASLt.
  if (transposed) std::swap(rows, columns);
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, data_type(dtype), static_cast<uint64_t>(columns),
                                   static_cast<uint64_t>(rows), leading),
        "describing a matrix");
  Layout layout(made);
  if (problem_.batch > 1) {
    set(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(problem_.batch));
    set(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  return layout;
}

MatmulPlan::MatmulPlan(cublasLtHandle_t handle, const MatmulProblem& problem) : handle_(handle), problem_(problem) {
  const MatmulProblem& p = problem_;
  cublasLtMatmulDesc_t product = nullptr;
  const cudaDataType_t scale = p.left_type == DType::f64 ? CUDA_R_64F : CUDA_R_32F;
  check(cublasLtMatmulDescCreate(&product, compute_type(p), scale), "describing a product");
  product_.reset(product);
  set(product, CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(p.right_transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
  set(product, CUBLASLT_MATMUL_DESC_TRANSB, static_cast<int32_t>(p.left_transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
  // As addresses they are only passed on.
  if (p.scaled) set_scales(address_aligned_to(64), address_aligned_to(64));
  right_ = layout(p.right_type, p.depth, p.columns, p.right_transposed, p.right_leading, p.right_stride);
  left_ = layout(p.left_type, p.rows, p.depth, p.left_transposed, p.left_leading, p.left_stride);
  result_ = layout(p.output, p.rows, p.columns, false, p.result_leading, p.result_stride);
}

void MatmulPlan::set_epilogue(bool behind, void* bias, void* aux) const {
  if (problem_.epilogue == Epilogue::none) return;
  const Epilogue epilogue = behind ? Epilogue::none : problem_.epilogue;
  set(product_.get(), CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(epilogue_of(epilogue)));
  if (epilogue == Epilogue::none) return;
  if (epilogue != Epilogue::gelu_grad) set(product_.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  if (epilogue != Epilogue::bias_gelu && epilogue != Epilogue::gelu_grad) return;
  set(product_.get(), CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
  set(product_.get(), CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, problem_.columns);
}

// It looks at how the addresses are aligned, and at nothing else of them.
void MatmulPlan::set_epilogue_for_choice(bool behind) const {
  set_epilogue(behind, address_aligned_to(problem_.bias_alignment), address_aligned_to(problem_.aux_alignment));
}

void MatmulPlan::set_scales(const void* left, const void* right) const {
  set(product_.get(), CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, right);
  set(product_.get(), CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, left);
}

std::vector<MatmulAlgorithm> MatmulPlan::propose(int count) const {
  std::vector<MatmulAlgorithm> all = propose(count, /*epilogue_behind=*/false);
  if (problem_.epilogue == Epilogue::none) return all;
  const std::vector<MatmulAlgorithm> alone = propose(count, /*epilogue_behind=*/true);
  all.insert(all.end(), alone.begin(), alone.end());
  return all;
}

std::vector<MatmulAlgorithm> MatmulPlan::propose(int count, bool epilogue_behind) const {
  set_epilogue_for_choice(epilogue_behind);
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "limiting algorithms");
  const Owned<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy> preference(made);
  set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kMatmulWorkspaceBytes));
  set(made, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(problem_.right_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(problem_.left_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(problem_.result_alignment));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(problem_.result_alignment));
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(count));
  int found_count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, product_.get(), right_.get(), left_.get(), result_.get(), result_.get(),
                                     made, count, found.data(), &found_count);
  // What an epilogue may be put together with is documented in part only.
  if (status != CUBLAS_STATUS_NOT_SUPPORTED && (problem_.epilogue == Epilogue::none || epilogue_behind))
    check(status, "looking for algorithms");
  std::vector<MatmulAlgorithm> proposed;
  for (int i = 0; i < found_count && status == CUBLAS_STATUS_SUCCESS; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = found[static_cast<size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= static_cast<size_t>(kMatmulWorkspaceBytes))
      proposed.push_back({result.algo, static_cast<int64_t>(result.workspaceSize), epilogue_behind});
  }
  return proposed;
}

bool MatmulPlan::accepts(const MatmulAlgorithm& algorithm) const {
  if (algorithm.epilogue_behind && problem_.epilogue == Epilogue::none) return false;
  set_epilogue_for_choice(algorithm.epilogue_behind);
  cublasLtMatmulHeuristicResult_t result = {};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle_, product_.get(), right_.get(), left_.get(), result_.get(), result_.get(),
                              &algorithm.opaque, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= static_cast<size_t>(kMatmulWorkspaceBytes);
}

void MatmulPlan::run_with(const MatmulAlgorithm& algorithm, const MatmulMemory& memory, void* workspace,
                          cudaStream_t stream) const {
  set_epilogue(algorithm.epilogue_behind, memory.bias, memory.aux);
  if (problem_.scaled) set_scales(memory.left_scale, memory.right_scale);
  // Of the scale type, read before the call returns.
  const float one = 1, beta = problem_.accumulate ? 1 : 0;
  const double wide_one = 1, wide_beta = problem_.accumulate ? 1 : 0;
  const bool is_wide = problem_.left_type == DType::f64;
  check(cublasLtMatmul(handle_, product_.get(), is_wide ? static_cast<const void*>(&wide_one) : &one,
                       memory.right, right_.get(), memory.left, left_.get(),
                       is_wide ? static_cast<const void*>(&wide_beta) : &beta, memory.result, result_.get(),
                       memory.result, result_.get(), &algorithm.opaque, workspace,
                       static_cast<size_t>(kMatmulWorkspaceBytes), stream),
        "a product");
  if (algorithm.epilogue_behind) run_epilogue(problem_, memory, workspace, stream);
}

}  // namespace tessera::cuda
