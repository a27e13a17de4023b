// The AdamW update (Loshchilov & Hutter 2019, decoupled weight decay) of many tensors in one pass, in place.
//
// Floor: memory, 28 bytes an f32 parameter (four reads, three writes over lines just read, which
// costs no read for ownership). One parallel loop runs over the pieces of all tensors, so that a model's
// many small ones (biases, norms) cost their bytes and no loop each.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/common/simd.h"
#include "kernels/cpu/step_bits.h"

namespace tessera::cpu {

struct AdamWStep {
  double learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0;
  double grad_scale = 1;                              // clipping and averaging
  double bias_correction1 = 1, bias_correction2 = 1;  // 1 - beta^step
};

// n elements of each; an output may be the input of the same name.
template <typename T, typename Param = T, typename Moment = T>
struct AdamWTensor {
  int64_t n = 0;
  const Param* param = nullptr;
  const Moment *m = nullptr, *v = nullptr;
  const T* grad = nullptr;
  Param* param_out = nullptr;
  Moment *m_out = nullptr, *v_out = nullptr;
  double weight_decay = 0;
  // Of what is stored in bf16: where the elements lie in the whole tensor, and the parameter's draw (its
  // moments have the sites behind it). Null: to nearest.
  const ShardRuns* runs = nullptr;
  StepDraw draw = {};
};

// g = grad * grad_scale; m = beta1 m + (1 - beta1) g; v likewise with g^2;
// param -= learning_rate * (m^ / (sqrt(v^) + epsilon) + weight_decay * param).
// Where grad_scale is not finite the step went bad, and everything stays as it was.
// Compiled for T float with Param and Moment float or bfloat16, and for double throughout.
template <typename T, typename Param, typename Moment>
void adamw(const AdamWStep& step, std::span<const AdamWTensor<T, Param, Moment>> tensors);

}  // namespace tessera::cpu
