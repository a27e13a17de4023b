// Epilogues of products (epilogue.h), over the result.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

// All matrices are [rows, columns], dense. Computed in f32; GELU is its tanh form.

// result += bias [columns]. For float and bf16.
template <typename T>
void add_bias(int64_t rows, int64_t columns, const T* bias, T* result, cudaStream_t stream);

// sum = result + bias; result = gelu(sum)
void add_bias_and_gelu(int64_t rows, int64_t columns, const bf16* bias, bf16* sum, bf16* result, cudaStream_t stream);

// result *= the slope of GELU at x
void multiply_gelu_slope(int64_t rows, int64_t columns, const bf16* x, bf16* result, cudaStream_t stream);

}  // namespace tessera::cuda
