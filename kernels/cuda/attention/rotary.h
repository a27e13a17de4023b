// Rotary position embedding in Llama's half-split form.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

// The angles' frequencies go to the kernel by value.
inline constexpr int kMaxRotaryPairs = 256;

struct RotaryShape {
  int batch = 0, length = 0, heads = 0, head_dim = 0;  // head_dim even, at most 2 kMaxRotaryPairs
  double theta = 10000.0;
  const int64_t* start = nullptr;  // on the device: position of row 0; null is 0
  bool inverse = false;            // turn the other way: the gradient
};

// x, y [batch, length, heads, head_dim]; y may be x. Pairs are (i, i + head_dim / 2), turned by
// (start + position) * theta^(-2 i / head_dim). T is float or bf16.
template <typename T>
void rotary(const RotaryShape& shape, const T* x, T* y, cudaStream_t stream);

}  // namespace tessera::cuda
