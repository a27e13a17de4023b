// The parts of softmax cross-entropy (core/ops/loss.h) and the gradient of the logits as one op, for
// one pass over the logits. It asks for what training has before it has logits: how much a row's loss
// and its logarithm of sums count do not depend on the loss. Made by the pass fuse_cross_entropy, after
// localize, where the vocabulary is whole on a device; models and autodiff write the parts.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// cross_entropy_with_grad{valid_size}(logits [..., V], targets [...], d_target [...], d_lse [...],
//                                     lse_slope [...]?)
//     -> (max [...], sum_exp [...], target_logit [...], dlogits like logits)
// The first three are those of logits_max and logits_sum. With lse = max + log(sum_exp),
//   dlogits = exp(logit - max) * (d_lse + lse_slope * lse) / sum_exp + onehot(target) * d_target,
// as logits_sum_grad has it. Everything [...] but the targets is f32, or f64 where the logits are.
// dlogits may lie over logits.
extern const OpDef kCrossEntropyWithGrad;

}  // namespace tessera::ops
