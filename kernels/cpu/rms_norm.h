// Root-mean-square normalisation over the last dim, and its gradient.
//
// Floor: memory. Forward reads x and writes y once; backward reads x and dy and writes dx.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

// y = x * rstd * gamma per row, rstd = 1 / sqrt(mean(x^2) + epsilon).
// x, y [rows, columns]; gamma [columns]; rstd [rows]. T is float, bfloat16 or double; W is T or
// float.
template <typename T, typename W>
void rms_norm_forward(int64_t rows, int64_t columns, const T* x, const W* gamma, double epsilon,
                      T* y, simd::Accumulator<T>* rstd);

int64_t rms_norm_backward_workspace(int64_t rows, int64_t columns, int64_t accumulator_bytes);

// dx [rows, columns], dgamma [columns]. G is the accumulator type. dx may be dy.
template <typename T, typename W, typename G>
void rms_norm_backward(int64_t rows, int64_t columns, const T* dy, const T* x, const W* gamma,
                       const simd::Accumulator<T>* rstd, T* dx, G* dgamma, void* workspace);

}  // namespace tessera::cpu
