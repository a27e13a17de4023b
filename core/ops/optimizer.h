// Optimizer updates, fused because they are bound by memory.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  // of this tensor: 0 where the mask says so
};

// Decoupled weight decay (Loshchilov & Hutter 2019). All tensors have one shape, f32 or f64; the
// last four operands are scalars of the same dtype.
//   g = grad * grad_scale;  m' = beta1 m + (1-beta1) g;  v' = beta2 v + (1-beta2) g^2
//   p' = p - learning_rate * ((m' / bias_correction1) / (sqrt(v' / bias_correction2) + epsilon)
//                             + weight_decay * p)
// with bias_correction = 1 - beta^step. Where grad_scale is not finite (a loss or norm went bad) the
// results are the operands: the step is skipped. Result i overwrites operand i.
extern const OpDef kAdamW;
struct AdamWOperands {
  Value param, m, v, grad, learning_rate, grad_scale, bias_correction1, bias_correction2;
};
struct AdamWResult {
  Value param, m, v;
};
AdamWResult adamw(Builder& b, const AdamWOperands& operands, const AdamWOptions& options);

}  // namespace tessera::ops
