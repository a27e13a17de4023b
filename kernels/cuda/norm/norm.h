// Layer normalisation and RMS normalisation over the last dim, and their gradients: one family, since the
// latter is the former without mean and beta (null pointers here).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

inline constexpr int64_t kNormMostColumns = int64_t{1} << 30;

// Per row of x: y = (x - mean) * rstd * gamma + beta with rstd = 1 / sqrt(variance + epsilon), or, where `mean`
// is null, y = x * rstd * gamma with rstd = 1 / sqrt(average(x^2) + epsilon).
// x, y [rows, columns]; gamma, beta [columns]; mean, rstd [rows]. y may be x. With a `residual` [rows, columns] it
// is x + residual, rounded to T, that is normalised, and written to `sum`: y may be the residual, sum may be x.
template <typename T, typename W>
struct NormForward {
  int64_t rows = 0, columns = 0;
  const T *x = nullptr, *residual = nullptr;
  const W *gamma = nullptr, *beta = nullptr;
  float epsilon = 0;
  T *y = nullptr, *sum = nullptr;
  float *mean = nullptr, *rstd = nullptr;
};

// T is float or bf16, W is T or float.
template <typename T, typename W>
void norm_forward(const NormForward<T, W>& norm, cudaStream_t stream);

// With n = (x - mean) rstd and g = dy gamma: dx = rstd (g - average(g) - n average(g n)), dgamma = sum over rows
// of dy n, dbeta = sum of dy; without mean, n = x rstd and dx = rstd (g - n average(g n)).
// dy, x, dx [rows, columns]; gamma, dgamma, dbeta [columns]; mean, rstd [rows]. dx may be dy. A `residual` [rows,
// columns] is added to dx before it is rounded; dx may be it.
template <typename T, typename W>
struct NormBackward {
  int64_t rows = 0, columns = 0;
  const T *dy = nullptr, *x = nullptr, *residual = nullptr;
  const W* gamma = nullptr;
  const float *mean = nullptr, *rstd = nullptr;
  T* dx = nullptr;
  float *dgamma = nullptr, *dbeta = nullptr;
  float* workspace = nullptr;  // norm_backward_workspace bytes
};
int64_t norm_backward_workspace(int64_t rows, int64_t columns, bool has_mean);
template <typename T, typename W>
void norm_backward(const NormBackward<T, W>& norm, cudaStream_t stream);

}  // namespace tessera::cuda
