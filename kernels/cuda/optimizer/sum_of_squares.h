// The sums of squares of tensors, for global gradient norms.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

namespace tessera::cuda {

// Bytes for one tensor of n elements.
int64_t sum_of_squares_workspace(int64_t n);

struct Squares {
  int64_t n = 0;
  const void* x = nullptr;
  float* result = nullptr;
};

// *result = sum of x[i]^2 of each tensor, within 1e-6 of its exact value where no square leaves f32's normal
// numbers; the same bits whatever other tensors there are. `workspace` has sum_of_squares_workspace(n) bytes for
// each, one behind the other, aligned to 8. T, the type of x, is float or bf16.
template <typename T>
void sums_of_squares(std::span<const Squares> tensors, void* workspace, cudaStream_t stream);

}  // namespace tessera::cuda
