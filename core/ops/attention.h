// Attention with grouped heads, and rotary position embedding.
#pragma once

#include <optional>

#include "core/ir/builder.h"

namespace tessera::ops {

struct AttentionOptions {
  bool causal = true;
  double scale = 1.0;       // on q k^T, usually 1/sqrt(d)
  int64_t window = 0;       // with causal: keys that a query sees at most; 0: all
  int64_t bias_origin = 0;  // with a distance_bias: the index of distance 0
};

// Optional operands, in this order behind the others. Their dtypes tell which of them are there, so
// a call needs no further attributes. d is f64 where q is f64, else f32.
struct AttentionExtras {
  Value distance_bias{};  // d [h,n]
  Value q_segments{};     // s32 [b,lq], both or none
  Value k_segments{};     // s32 [b,lk]
  Value start{};          // s64 [], position of query row 0; 0 where absent
};

// Indices of the optional operands; -1 where absent.
struct AttentionExtraIndices {
  int distance_bias = -1, q_segments = -1, k_segments = -1, start = -1;
};
inline constexpr size_t kAttentionOperands = 3, kAttentionGradOperands = 6;  // those always there

// `own` is the number of operands that are always there; dtype_of(i) the dtype of operand i.
template <typename DTypeOf>
AttentionExtraIndices attention_extras(size_t own, size_t count, DTypeOf dtype_of) {
  AttentionExtraIndices at;
  int i = static_cast<int>(own);
  const int end = static_cast<int>(count);
  if (i < end && is_float(dtype_of(i))) at.distance_bias = i++;
  if (i + 1 < end && dtype_of(i) == DType::s32) {
    at.q_segments = i++;
    at.k_segments = i++;
  }
  if (i < end) at.start = i;
  return at;
}
inline AttentionExtraIndices attention_extras(size_t own, const OpCall& call) {
  return attention_extras(own, call.operands.size(),
                          [&](int i) { return call.operands[static_cast<size_t>(i)].dtype; });
}

// attention{causal, scale, window?, bias_origin?}
//     (q [b,lq,h,d], k [b,lk,kv,d], v [b,lk,kv,d], distance_bias?, q_segments?, k_segments?, start?)
//   -> (out like q, lse [b,h,lq] f32 or f64)
// Query head i reads key head i / (h / kv). Query row r has position p = start + r, keys have
// positions 0, 1, ...
//   causal          the query sees keys 0..p
//   window w        and of these only max(0, p - w + 1)..p (Beltagy et al. 2020, Longformer)
//   segments        and of these only those with k_segments equal to its q_segments: packed
//                   documents do not see each other. Any numbers, in any order.
//   distance_bias   distance_bias[head, clamp(p - j + bias_origin, 0, n - 1)] is added to the scaled
//                   score of key j: ALiBi (Press et al. 2022), relative positions (Raffel et al. 2020)
// lse is the log-sum-exp of the scores that are seen. A query that sees no key gives out 0 and lse
// -inf. Throws UserError for a window without causal, and a bias_origin without distance_bias.
extern const OpDef kAttention;
struct AttentionResult {
  Value out, lse;
};
AttentionResult attention(Builder& b, Value q, Value k, Value v, const AttentionOptions& options,
                          const AttentionExtras& extras = {});

// attention_grad{causal, scale, window?, bias_origin?, bias_gradient?}
//     (q, k, v, out, lse, dout, distance_bias?, q_segments?, k_segments?, start?)
//   -> (dq, dk, dv), with bias_gradient (dq, dk, dv, d_distance_bias like distance_bias)
// lse takes no gradient of its own. d_distance_bias is a sum over the batch and the queries; a
// constant bias (ALiBi) does without it.
extern const OpDef kAttentionGrad;
struct AttentionGradResult {
  Value dq, dk, dv;
  Value d_distance_bias;  // invalid unless asked for
};
AttentionGradResult attention_grad(Builder& b, Value q, Value k, Value v, Value out, Value lse,
                                   Value dout, const AttentionOptions& options,
                                   const AttentionExtras& extras = {}, bool bias_gradient = false);

// Query-key pairs of one head that are worked out, on average over the shards of the queries: half
// of lq x lk when causal, less with a window. Segments are not known here.
double attention_pairs(int64_t queries, int64_t keys, bool causal, int64_t window);

// rotary{theta, inverse?}(x [b,l,h,d], start?) -> like x. Pairs are (i, i + d/2), as in Llama:
//   angle = (start + position) * theta^(-2i/d);  (a, b) -> (a cos - b sin, b cos + a sin)
// `inverse` turns the other way round: it is the gradient.
extern const OpDef kRotary;
Value rotary(Builder& b, Value x, double theta, bool inverse = false,
             std::optional<Value> start = std::nullopt);

}  // namespace tessera::ops
