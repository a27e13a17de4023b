// cuBLASLt's functions: descriptors, the choice of algorithms, and what is refused.
//
// There are algorithms of two kinds, one that loads 16 bytes at once and wants everything aligned so, and one that
// takes anything; each alone or with its depth split, put together in each of NVIDIA's ways. They add in different
// orders, so that a choice that is not kept shows in the last bits.
//
// f8 matrices are what a Hopper GPU has of them (NVIDIA's documentation of cublasLtMatmul): A transposed and B not, at
// most one of them e5m2, sides that are multiples of 16, addresses too, f32 arithmetic, D (and C) bf16 or f32, and of
// epilogues, into bf16, a bias and GELU behind it (release notes of cuBLAS 12.0). Scale pointers are theirs alone.
//
// Epilogues: those that kernels/cuda/matmul asks for, of one batch in f32 arithmetic. NVIDIA's header wants the leading
// dimension of aux divisible by 8 and no less than the rows of D, and looks at how the pointers are aligned; here they
// must be so to 16 bytes, which is more than NVIDIA asks of a bias, so that tests come by what has no algorithm.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/soft_gpu/cublaslt_product.h"
#include "tests/soft_gpu/cublaslt_values.h"
#include "tests/soft_gpu/stream_work.h"

struct cublasLtContext {};
struct cublasLtMatrixLayoutOpaque_t {
  soft_gpu::MatrixLayout layout;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *bias = nullptr, *aux = nullptr;
  int64_t aux_ld = 0;
  const void *a_scale = nullptr, *b_scale = nullptr;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint32_t search = 0;
  uint64_t workspace_bytes = 0;
  uint32_t reduction_mask = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

namespace soft_gpu {
namespace {

constexpr uint64_t kMagic = 0x736f667461'6c676fu;  // of our algorithms

// What an algorithm's opaque words hold.
struct Algorithm {
  uint32_t alignment = 1;  // of all four matrices
  int splits = 1;
  cublasLtReductionScheme_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t input = CUDA_R_32F, output = CUDA_R_32F;

  cublasLtMatmulAlgo_t opaque() const {
    return {{kMagic, alignment, static_cast<uint64_t>(splits), scheme, compute, input, output, kMagic ^ alignment}};
  }
  static bool read(const cublasLtMatmulAlgo_t& from, Algorithm& to) {
    const uint64_t* const words = from.data;
    if (words[0] != kMagic || words[7] != (kMagic ^ words[1])) return false;
    to = {static_cast<uint32_t>(words[1]), static_cast<int>(words[2]),
          static_cast<cublasLtReductionScheme_t>(words[3]), static_cast<cublasComputeType_t>(words[4]),
          static_cast<cudaDataType_t>(words[5]), static_cast<cudaDataType_t>(words[6])};
    return to.splits >= 1;
  }
};

template <typename Field>
cublasStatus_t set_field(Field& field, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

bool is_layout_sound(const MatrixLayout& layout) {
  const uint64_t along = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.cols;
  return layout.rows > 0 && layout.cols > 0 && layout.rows <= INT32_MAX && layout.cols <= INT32_MAX &&
         layout.batch > 0 && layout.ld >= static_cast<int64_t>(along);
}

// The combinations of NVIDIA's table for cublasLtMatmul that are of use here.
bool is_f8(cudaDataType_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

// Ada's matrix units are the first to have f8.
bool has_f8() {
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         10 * major + minor >= 89;
}

bool is_f8_supported(const cublasLtMatmulDescOpaque_t& desc, const MatrixProduct& p) {
  const cudaDataType_t out = p.d.type;
  if (!is_f8(p.a.type) || !is_f8(p.b.type) || (p.a.type == CUDA_R_8F_E5M2 && p.b.type == CUDA_R_8F_E5M2)) return false;
  return has_f8() && desc.compute == CUBLAS_COMPUTE_32F && desc.scale == CUDA_R_32F && p.c.type == out && p.transpose_a &&
         !p.transpose_b && p.m % 16 == 0 && p.n % 16 == 0 && p.k % 16 == 0 &&
         (out == CUDA_R_16BF || (out == CUDA_R_32F && desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT)) &&
         (desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT || desc.epilogue == CUBLASLT_EPILOGUE_BIAS ||
          desc.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
}

bool are_types_supported(const cublasLtMatmulDescOpaque_t& desc, const MatrixProduct& p) {
  const cudaDataType_t in = p.a.type, out = p.d.type;
  if (is_f8(in) || is_f8(p.b.type)) return is_f8_supported(desc, p);
  if (desc.a_scale || desc.b_scale) return false;
  if (p.b.type != in || p.c.type != out) return false;
  switch (desc.compute) {
    case CUBLAS_COMPUTE_64F:
      return desc.scale == CUDA_R_64F && in == CUDA_R_64F && out == CUDA_R_64F;
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return desc.scale == CUDA_R_32F && in == CUDA_R_32F && out == CUDA_R_32F;
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return desc.scale == CUDA_R_32F && in != CUDA_R_64F && (out == in || out == CUDA_R_32F);
    default:
      return false;
  }
}

bool has_bias(uint32_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
         epilogue == CUBLASLT_EPILOGUE_BGRADA;
}
bool has_aux(uint32_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || epilogue == CUBLASLT_EPILOGUE_DGELU;
}

bool is_aligned(const void* pointer, uint64_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

cublasStatus_t check_epilogue(const cublasLtMatmulDescOpaque_t& desc, const MatrixProduct& p) {
  if (desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
  const bool bias = has_bias(desc.epilogue), aux = has_aux(desc.epilogue);
  if (!(bias || aux) || p.compute == CUBLAS_COMPUTE_64F || p.d.batch > 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  if ((bias && !desc.bias) || (aux && !desc.aux)) return CUBLAS_STATUS_INVALID_VALUE;
  if (aux && (desc.aux_ld % 8 != 0 || desc.aux_ld < p.m)) return CUBLAS_STATUS_INVALID_VALUE;
  if ((bias && !is_aligned(desc.bias, 16)) || (aux && !is_aligned(desc.aux, 16))) return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t describe(const cublasLtMatmulDescOpaque_t& desc, const MatrixLayout& a, const MatrixLayout& b,
                        const MatrixLayout& c, const MatrixLayout& d, MatrixProduct& p) {
  for (const MatrixLayout* layout : {&a, &b, &c, &d})
    if (!is_layout_sound(*layout) || layout->batch != d.batch) return CUBLAS_STATUS_INVALID_VALUE;
  p.compute = desc.compute;
  p.transpose_a = desc.transpose_a != CUBLAS_OP_N;
  p.transpose_b = desc.transpose_b != CUBLAS_OP_N;
  p.a = a, p.b = b, p.c = c, p.d = d;
  p.m = static_cast<int64_t>(d.rows);
  p.n = static_cast<int64_t>(d.cols);
  p.k = static_cast<int64_t>(p.transpose_a ? a.rows : a.cols);
  const auto is_size = [](const MatrixLayout& layout, bool transpose, int64_t rows, int64_t cols) {
    return static_cast<int64_t>(transpose ? layout.cols : layout.rows) == rows &&
           static_cast<int64_t>(transpose ? layout.rows : layout.cols) == cols;
  };
  if (!is_size(a, p.transpose_a, p.m, p.k) || !is_size(b, p.transpose_b, p.k, p.n) || !is_size(c, false, p.m, p.n))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!are_types_supported(desc, p)) return CUBLAS_STATUS_NOT_SUPPORTED;
  p.epilogue = static_cast<cublasLtEpilogue_t>(desc.epilogue);
  p.a_scale = desc.a_scale, p.b_scale = desc.b_scale;
  p.bias = desc.bias, p.aux = desc.aux, p.aux_ld = desc.aux_ld;
  return check_epilogue(desc, p);
}

// Leading dims and strides are as an algorithm wants them.
bool is_stepped_for(const MatrixLayout& layout, uint32_t alignment) {
  const int64_t bytes = size_of(layout.type);
  return layout.ld * bytes % alignment == 0 && (layout.batch == 1 || layout.stride * bytes % alignment == 0);
}

cublasStatus_t configure(const cublasLtMatmulAlgo_t& opaque, MatrixProduct& p, Algorithm& algorithm) {
  if (!Algorithm::read(opaque, algorithm)) return CUBLAS_STATUS_INVALID_VALUE;
  if (algorithm.compute != p.compute || algorithm.input != p.a.type || algorithm.output != p.d.type)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const MatrixLayout* layout : {&p.a, &p.b, &p.c, &p.d})
    if (!is_stepped_for(*layout, std::min<uint32_t>(algorithm.alignment, 16))) return CUBLAS_STATUS_NOT_SUPPORTED;
  p.splits = algorithm.splits;
  p.scheme = algorithm.scheme;
  return CUBLAS_STATUS_SUCCESS;
}

// In the order in which they are proposed: what demands most comes first.
std::vector<Algorithm> all_algorithms(const MatrixProduct& p) {
  std::vector<Algorithm> all;
  const auto [in, out] = std::pair(p.a.type, p.d.type);
  for (const uint32_t alignment : {16u, static_cast<uint32_t>(std::min(size_of(in), size_of(out)))}) {
    if (is_f8(in) && alignment < 16) continue;
    for (const auto& [splits, scheme] : {std::pair(2, CUBLASLT_REDUCTION_SCHEME_INPLACE),
                                         std::pair(2, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE),
                                         std::pair(3, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE),
                                         std::pair(1, CUBLASLT_REDUCTION_SCHEME_NONE)}) {
      if (p.k >= splits) all.push_back({alignment, splits, scheme, p.compute, in, out});
    }
  }
  return all;
}

double scalar(cudaDataType_t type, const void* value) {
  return type == CUDA_R_64F ? *static_cast<const double*>(value) : *static_cast<const float*>(value);
}

}  // namespace
}  // namespace soft_gpu

using soft_gpu::Algorithm;
using soft_gpu::all_algorithms;
using soft_gpu::configure;
using soft_gpu::describe;
using soft_gpu::MatrixProduct;
using soft_gpu::set_field;

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS of another kind";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the functionality requested is not supported";
    default:
      return "another error";
  }
}
size_t cublasLtGetVersion() { return 130100; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  *layout = new cublasLtMatrixLayoutOpaque_t{{type, CUBLASLT_ORDER_COL, rows, cols, ld}};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attr,
                                                const void* buf, size_t sizeInBytes) {
  switch (attr) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return set_field(layout->layout.order, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return set_field(layout->layout.batch, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set_field(layout->layout.stride, buf, sizeInBytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType) {
  *desc = new cublasLtMatmulDescOpaque_t{computeType, scaleType};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attr,
                                              const void* buf, size_t sizeInBytes) {
  switch (attr) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set_field(desc->transpose_a, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set_field(desc->transpose_b, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set_field(desc->epilogue, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set_field(desc->bias, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return set_field(desc->aux, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return set_field(desc->aux_ld, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
      return set_field(desc->a_scale, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
      return set_field(desc->b_scale, buf, sizeInBytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* pref) {
  *pref = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) {
  delete pref;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void* buf,
                                                    size_t sizeInBytes) {
  switch (attr) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
      return set_field(pref->search, buf, sizeInBytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set_field(pref->workspace_bytes, buf, sizeInBytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set_field(pref->reduction_mask, buf, sizeInBytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set_field(pref->alignment[attr - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], buf, sizeInBytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int requestedAlgoCount, cublasLtMatmulHeuristicResult_t* results,
                                              int* returnAlgoCount) {
  if (requestedAlgoCount <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  *returnAlgoCount = 0;
  MatrixProduct product;
  const cublasStatus_t status = describe(*desc, a->layout, b->layout, c->layout, d->layout, product);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const uint32_t promised = *std::min_element(preference->alignment, preference->alignment + 4);
  for (const Algorithm& candidate : all_algorithms(product)) {
    if (*returnAlgoCount == requestedAlgoCount) break;
    Algorithm algorithm;
    if (configure(candidate.opaque(), product, algorithm) != CUBLAS_STATUS_SUCCESS) continue;
    const auto bytes = static_cast<uint64_t>(workspace_bytes(product));
    const bool is_allowed = candidate.scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
                            (candidate.scheme & preference->reduction_mask) != 0;
    if (!is_allowed || candidate.alignment > promised || bytes > preference->workspace_bytes) continue;
    results[(*returnAlgoCount)++] = {candidate.opaque(), bytes, CUBLAS_STATUS_SUCCESS, 1, {}};
  }
  return *returnAlgoCount > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* result) {
  MatrixProduct product;
  Algorithm algorithm;
  cublasStatus_t status = describe(*desc, a->layout, b->layout, c->layout, d->layout, product);
  if (status == CUBLAS_STATUS_SUCCESS) status = configure(*algo, product, algorithm);
  result->state = status;
  result->workspaceSize = static_cast<size_t>(workspace_bytes(product));
  return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* A,
                              cublasLtMatrixLayout_t Adesc, const void* B, cublasLtMatrixLayout_t Bdesc,
                              const void* beta, const void* C, cublasLtMatrixLayout_t Cdesc, void* D,
                              cublasLtMatrixLayout_t Ddesc, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspaceSizeInBytes, cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  MatrixProduct product;
  Algorithm algorithm;
  cublasStatus_t status = describe(*desc, Adesc->layout, Bdesc->layout, Cdesc->layout, Ddesc->layout, product);
  if (status == CUBLAS_STATUS_SUCCESS) status = algo ? configure(*algo, product, algorithm) : CUBLAS_STATUS_NOT_SUPPORTED;
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  product.alpha = soft_gpu::scalar(desc->scale, alpha);
  product.beta = soft_gpu::scalar(desc->scale, beta);
  product.a_data = A, product.b_data = B, product.c_data = C, product.d_data = D;
  product.workspace = workspace;
  const std::pair<const void*, const soft_gpu::MatrixLayout*> matrices[] = {
      {A, &product.a}, {B, &product.b}, {product.beta == 0 ? D : C, &product.c}, {D, &product.d}};
  for (const auto& [pointer, layout] : matrices) {
    if (!pointer || !soft_gpu::is_aligned(pointer, static_cast<uint64_t>(soft_gpu::size_of(layout->type))) ||
        !soft_gpu::is_aligned(pointer, algorithm.alignment))
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto needed = static_cast<size_t>(workspace_bytes(product));
  if (needed > workspaceSizeInBytes || (needed > 0 && (!workspace || !soft_gpu::is_aligned(workspace, 16))))
    return CUBLAS_STATUS_INVALID_VALUE;
  return soft_gpu::enqueue(stream, "cublasLtMatmul", [product] { run(product); }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}
