// Layer normalisation over the last dim, and its gradient.
//
// Floor: memory. Forward reads x and writes y once (a row stays in L1 between its three passes);
// backward reads x and dy and writes dx.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

// y = (x - mean) * rstd * gamma + beta per row, rstd = 1 / sqrt(variance + epsilon).
// x, y [rows, columns]; gamma, beta [columns] (beta may be null); mean, rstd [rows].
// T is float, bfloat16 or double, W is T or float; statistics are f32 (f64 for double).
template <typename T, typename W>
void layer_norm_forward(int64_t rows, int64_t columns, const T* x, const W* gamma, const W* beta,
                        double epsilon, T* y, simd::Accumulator<T>* mean,
                        simd::Accumulator<T>* rstd);

int64_t layer_norm_backward_workspace(int64_t rows, int64_t columns, int64_t accumulator_bytes);

// dx [rows, columns], dgamma and dbeta [columns]. G is the accumulator type. dx may be dy.
template <typename T, typename W, typename G>
void layer_norm_backward(int64_t rows, int64_t columns, const T* dy, const T* x, const W* gamma,
                         const simd::Accumulator<T>* mean, const simd::Accumulator<T>* rstd, T* dx,
                         G* dgamma, G* dbeta, void* workspace);

}  // namespace tessera::cpu
