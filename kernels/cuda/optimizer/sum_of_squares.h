// The sum of squares of a tensor, for global gradient norms.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

int64_t sum_of_squares_workspace(int64_t n);

// *result = sum of x[i]^2, within 1e-6 of its exact value where no square leaves f32's normal numbers.
// `workspace` has sum_of_squares_workspace(n) bytes, aligned to 8.
// T is float or bf16.
template <typename T>
void sum_of_squares(int64_t n, const T* x, float* result, void* workspace, cudaStream_t stream);

}  // namespace tessera::cuda
