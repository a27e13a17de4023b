// Attention with grouped heads, and rotary position embedding.
#pragma once

#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

struct AttentionOptions {
  bool causal = true;
  double scale = 1.0;  // on q k^T, usually 1/sqrt(d)
};

// attention{causal, scale}(q [b,lq,h,d], k [b,lk,kv,d], v [b,lk,kv,d], start?)
//   -> (out like q, lse [b,h,lq] f32 or f64)
// Query head i reads key head i / (h / kv). With `causal`, the query at position p sees keys 0..p;
// query row r has position start + r (start s64[], 0 where absent), keys start at 0. lse is the
// log-sum-exp of the scaled scores. A query that sees no key gives out 0 and lse -inf.
extern const OpDef kAttention;
struct AttentionResult {
  Value out, lse;
};
AttentionResult attention(Builder& b, Value q, Value k, Value v, const AttentionOptions& options,
                          std::optional<Value> start = std::nullopt);

// attention_grad{causal, scale}(q, k, v, out, lse, dout, start?) -> (dq, dk, dv). lse takes no
// gradient of its own.
extern const OpDef kAttentionGrad;
struct AttentionGradResult {
  Value dq, dk, dv;
};
AttentionGradResult attention_grad(Builder& b, Value q, Value k, Value v, Value out, Value lse,
                                   Value dout, const AttentionOptions& options,
                                   std::optional<Value> start = std::nullopt);

// rotary{theta, inverse?}(x [b,l,h,d], start?) -> like x. Pairs are (i, i + d/2), as in Llama:
//   angle = (start + position) * theta^(-2i/d);  (a, b) -> (a cos - b sin, b cos + a sin)
// `inverse` turns the other way round: it is the gradient.
extern const OpDef kRotary;
Value rotary(Builder& b, Value x, double theta, bool inverse = false,
             std::optional<Value> start = std::nullopt);

}  // namespace tessera::ops
