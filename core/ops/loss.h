// Softmax cross-entropy in parts that never gather a sharded vocabulary: only [...]-sized values
// are combined over the shards of V.
//
// logits [..., V] have any float dtype; everything else is f32, or f64 where the logits are.
// Targets are integers [...]. Columns at or above `valid_size` (the padding of the vocabulary) take
// no part. All three ops take an optional last operand `start` s64[]: the global index of column 0.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// logits_max{valid_size}(logits) -> max [...]. Takes no gradient: the loss does not depend on the
// number that is subtracted and added again.
extern const OpDef kLogitsMax;
Value logits_max(Builder& b, Value logits, int64_t valid_size);

// logits_sum{valid_size}(logits, max, targets) -> (sum_exp [...], target_logit [...]):
//   sum_exp = sum over columns of exp(logit - max); target_logit is 0 where this shard lacks it.
extern const OpDef kLogitsSum;
struct LogitsSumResult {
  Value sum_exp, target_logit;
};
LogitsSumResult logits_sum(Builder& b, Value logits, Value max, Value targets, int64_t valid_size);

// logits_sum_grad{valid_size}(logits, max, targets, d_sum [...], d_target [...]) -> like logits:
//   exp(logit - max) * d_sum + onehot(target) * d_target
extern const OpDef kLogitsSumGrad;
Value logits_sum_grad(Builder& b, Value logits, Value max, Value targets, Value d_sum,
                      Value d_target, int64_t valid_size);

// loss = lse - logit of the target, lse = max + log(sum_exp); both [...].
struct CrossEntropyResult {
  Value loss, lse;
};
CrossEntropyResult softmax_cross_entropy(Builder& b, Value logits, Value targets,
                                         int64_t valid_size);

}  // namespace tessera::ops
