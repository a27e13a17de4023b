// What products in fp8 need beside cuBLASLt: the largest absolute value that a scale is chosen from, and operands
// written out as bf16 where cuBLASLt has no product of them as they are.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

int64_t max_abs_workspace(int64_t n);

// *result = max |x[i]|, 0 for n = 0, NaN where there is one. `workspace` has max_abs_workspace(n) bytes, aligned to 4.
// T is float or bf16.
template <typename T>
void max_abs(int64_t n, const T* x, float* result, void* workspace, cudaStream_t stream);

// to[i] = the value of codes[i], exact; `is_e5m2` or e4m3.
void widen_f8(bool is_e5m2, int64_t n, const uint8_t* codes, bf16* to, cudaStream_t stream);

}  // namespace tessera::cuda
