// The arithmetic of cublasLtMatmul: D = epilogue(alpha op(A) op(B) + beta C), as the software GPU does it.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace soft_gpu {

int64_t size_of(cudaDataType_t type);

struct MatrixLayout {
  cudaDataType_t type = CUDA_R_32F;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
  int32_t batch = 1;
  int64_t stride = 0;

  int64_t at(int64_t row, int64_t col) const { return order == CUBLASLT_ORDER_COL ? col * ld + row : row * ld + col; }
};

struct MatrixProduct {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  bool transpose_a = false, transpose_b = false;
  MatrixLayout a, b, c, d;
  int64_t m = 0, n = 0, k = 0;
  double alpha = 1, beta = 0;
  const void *a_data = nullptr, *b_data = nullptr, *c_data = nullptr;
  void* d_data = nullptr;
  void* workspace = nullptr;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *bias = nullptr, *aux = nullptr;  // of D's type; aux by columns as D
  int64_t aux_ld = 0;
  const void *a_scale = nullptr, *b_scale = nullptr;  // f32, of f8 matrices; null is 1
  // The depth in `splits` parts, put together by `scheme`.
  int splits = 1;
  cublasLtReductionScheme_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
};

// Bytes that the parts need.
int64_t workspace_bytes(const MatrixProduct& product);

// Computes it now. C is not read where beta is 0. Parts that are added "in place" come in a random order, which
// NVIDIA leaves open too.
void run(const MatrixProduct& product);

}  // namespace soft_gpu
