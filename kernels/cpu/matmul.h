// Matrix products: C = alpha op(A) op(B) + beta C, row-major, batched by strides.
//
// Floor: 2 m n k operations at the machine's multiply-add peak; a step of GPT-2 spends four fifths
// of its time here. f32 and bf16 go through oneDNN, which on the shapes of a GPT-2 step ran at
// 460-530 GFLOP/s on two Zen 5 cores where OpenBLAS 0.3.21 ran at 190-250 (it does not know the
// processor) and within 10 % of it, either way, on Cascade Lake; oneDNN alone shares our OpenMP
// threads. f64, which oneDNN lacks, and bf16 where the processor has no instructions for it, run
// our own blocked loop.
//
// oneDNN splits k among threads where m and n are small, so that its sums depend on their number.
// Here C is therefore cut into tiles by its shape, and each tile is computed by one thread.
#pragma once

#include <cstdint>

#include "core/types/narrow_float.h"

namespace tessera::cpu {

struct GemmShape {
  bool transpose_a = false;  // A is stored [k, m]
  bool transpose_b = false;  // B is stored [n, k]
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements between stored rows
  int64_t batch = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between batch entries; 0 shares
};

// Dense row-major operands: leading dims and strides from m, n, k and batch.
GemmShape dense_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                     int64_t batch = 1);

// beta = 0 never reads C (it may hold anything); beta = 1 accumulates in place.
// Instances: (float, float), (double, double), (bfloat16, bfloat16), (bfloat16, float).
template <typename In, typename Out>
void gemm(const GemmShape& shape, double alpha, const In* a, const In* b, double beta, Out* c);

}  // namespace tessera::cpu
