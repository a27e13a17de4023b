// Rotary position embedding in Llama's half-split form.
//
// Floor: memory, x read and y written once; the angles of a position serve all heads of all
// sequences that have it.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

struct RotaryShape {
  int64_t batch = 0, length = 0, heads = 0, head_dim = 0;  // head_dim even
  double theta = 10000.0;
  int64_t start = 0;     // position of row 0
  bool inverse = false;  // turn the other way: the gradient
};

// x, y [batch, length, heads, head_dim]; y may be x. Pairs are (i, i + head_dim / 2), turned by
// (start + position) * theta^(-2 i / head_dim). T is float, bfloat16 or double.
template <typename T>
void rotary(const RotaryShape& shape, const T* x, T* y);

}  // namespace tessera::cpu
