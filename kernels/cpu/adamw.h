// The AdamW update (Loshchilov & Hutter 2019, decoupled weight decay) in one pass, in place.
//
// Floor: memory, 28 bytes an f32 parameter (four reads, three writes over lines just read, which
// costs no read for ownership).
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

struct AdamWStep {
  double learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0, weight_decay = 0;
  double grad_scale = 1;                              // clipping and averaging
  double bias_correction1 = 1, bias_correction2 = 1;  // 1 - beta^step
};

// Updates n elements: g = grad * grad_scale; m = beta1 m + (1 - beta1) g; v likewise with g^2;
// param -= learning_rate * (m^ / (sqrt(v^) + epsilon) + weight_decay * param).
// Where grad_scale is not finite the step went bad, and everything stays as it was.
// The *_out may be the inputs themselves. `narrow`, if not null, gets the new parameters in bf16.
// T is float or double.
template <typename T>
void adamw(int64_t n, const AdamWStep& step, const T* param, const T* m, const T* v, const T* grad,
           T* param_out, T* m_out, T* v_out, bfloat16* narrow = nullptr);

}  // namespace tessera::cpu
