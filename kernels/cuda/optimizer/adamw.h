// The AdamW update (Loshchilov & Hutter 2019, decoupled weight decay) of many tensors in one pass.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/random/places.h"

namespace tessera::cuda {

constexpr int kMaxAdamWRank = 4;  // of a shard's dims, those that step as one merged, under stochastic rounding
using AdamWPlaces = PlacesOfRank<kMaxAdamWRank>;

// Device memory, n elements each: f32, or bf16 where the call says so. An output may be the input of the same
// name.
struct AdamWTensor {
  int64_t n = 0;
  const void *param = nullptr, *m = nullptr, *v = nullptr;
  const float* grad = nullptr;
  void *param_out = nullptr, *m_out = nullptr, *v_out = nullptr;
  float weight_decay = 0;
  // Of stochastic rounding: the parameter's draw (the moments' are the next two) and where the elements lie in
  // the whole tensor.
  uint32_t site = 0;
  AdamWPlaces places = {};
};

// One element each, in device memory: the step that captured them is replayed with other values.
struct AdamWScalars {
  const float *learning_rate = nullptr, *grad_scale = nullptr;
  const float *bias_correction1 = nullptr, *bias_correction2 = nullptr;  // 1 - beta^step
  const int64_t* step = nullptr;  // of stochastic rounding; null: what is bf16 is rounded to nearest
};

struct AdamWFactors {
  float beta1 = 0, rest1 = 1, beta2 = 0, rest2 = 1;  // rest = 1 - beta, rounded once
  float epsilon = 0;
  uint64_t seed = 0;
};

// g = grad * grad_scale; m = beta1 m + rest1 g; v = beta2 v + rest2 g^2;
// param -= learning_rate * (m^ / (sqrt(v^) + epsilon) + weight_decay * param).
// Where grad_scale is not finite the step went bad, and everything stays as it was.
void adamw(std::span<const AdamWTensor> tensors, bool has_narrow_params, bool has_narrow_moments,
           const AdamWScalars& scalars, const AdamWFactors& factors, cudaStream_t stream);

}  // namespace tessera::cuda
