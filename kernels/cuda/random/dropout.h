// Dropout in one pass: the mask is made where it is applied.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

struct DropoutMask {
  uint64_t seed = 0;
  uint32_t site = 0;
  uint32_t threshold = 0;  // of 2^16: what draws less is dropped
  float scale = 1;         // of what is kept
  // In device memory: the step, and the row at which the first dim of the whole begins, of `row_stride` elements.
  const int64_t *step = nullptr, *row = nullptr;
  int64_t row_stride = 0;
};

// places.count elements; y may be x. T is float or bf16.
template <typename T>
void dropout(const DropoutMask& mask, const RandomPlaces& places, const T* x, T* y, cudaStream_t stream);

}  // namespace tessera::cuda
