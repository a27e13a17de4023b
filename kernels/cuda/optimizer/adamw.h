// The AdamW update (Loshchilov & Hutter 2019, decoupled weight decay) in one pass over an f32 tensor.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// Device memory, n elements each. An output may be the input of the same name.
struct AdamWTensors {
  const float *param = nullptr, *m = nullptr, *v = nullptr, *grad = nullptr;
  float *param_out = nullptr, *m_out = nullptr, *v_out = nullptr;
};

// One element each, in device memory: the step that captured them is replayed with other values.
struct AdamWScalars {
  const float *learning_rate = nullptr, *grad_scale = nullptr;
  const float *bias_correction1 = nullptr, *bias_correction2 = nullptr;  // 1 - beta^step
};

struct AdamWFactors {
  float beta1 = 0, rest1 = 1, beta2 = 0, rest2 = 1;  // rest = 1 - beta, rounded once
  float epsilon = 0, weight_decay = 0;
};

// g = grad * grad_scale; m = beta1 m + rest1 g; v = beta2 v + rest2 g^2;
// param -= learning_rate * (m^ / (sqrt(v^) + epsilon) + weight_decay * param).
// Where grad_scale is not finite the step went bad, and everything stays as it was.
void adamw(int64_t n, const AdamWTensors& tensors, const AdamWScalars& scalars, const AdamWFactors& factors,
           int multiprocessors, cudaStream_t stream);

}  // namespace tessera::cuda
