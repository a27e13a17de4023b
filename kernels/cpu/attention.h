// Attention in blocks with an online softmax (Dao et al. 2022, FlashAttention): no length x length
// memory, and the backward pass recomputes the probabilities from the log-sum-exp.
//
// Floor: arithmetic. Forward does 4 b h q k d operations (half of it with a causal mask), backward
// 10, at the multiply-add peak; the exponentials add some 15 % at head_dim 64.
//
// Queries lie along the vector lanes: the scores of a key against 64 queries are four vectors, so
// that the softmax's maxima and sums need no reduction across lanes, and both products take keys
// and values as they are stored.
#pragma once

#include <cstdint>

#include "kernels/common/simd.h"

namespace tessera::cpu {

struct AttentionShape {
  int64_t batch = 0, q_len = 0, k_len = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;  // query head i reads head i / (heads / kv_heads)
  bool causal = true;                             // the query at position p sees keys 0..p
  int64_t q_start = 0;                            // position of query row 0; keys start at 0
  double scale = 1.0;                             // on the scores
  int64_t window = 0;                             // causal: the last so many keys only; 0: all
};

// Optional: see core/ops/attention.h. Acc is what the sums are in.
template <typename Acc>
struct AttentionExtras {
  const Acc* distance_bias = nullptr;   // [heads, distances], added to the scaled scores
  int64_t distances = 0;
  int64_t bias_origin = 0;
  const int32_t* q_segments = nullptr;  // [batch, q_len]
  const int32_t* k_segments = nullptr;  // [batch, k_len]
};

// q, out [batch, q_len, heads, head_dim]; k, v [batch, k_len, kv_heads, head_dim];
// lse [batch, heads, q_len], the log-sum-exp of the scaled scores. A query that sees no key gives
// out 0 and lse -infinity. T is float, bfloat16 or double; softmax and sums are f32 (f64).
template <typename T>
void attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                       simd::Accumulator<T>* lse,
                       const AttentionExtras<simd::Accumulator<T>>& extras = {});

// `distances` where the gradient of the bias is asked for, else 0.
int64_t attention_backward_workspace(const AttentionShape& shape, int64_t accumulator_bytes,
                                     int64_t distances = 0);

// dq like q, dk and dv like k, from what forward gave and dout; d_distance_bias like distance_bias,
// unless it is null. Threads share out (batch, kv_heads) pairs, each of which owns its rows of dk
// and dv; the bias' gradient is summed per sequence, then over them in order.
template <typename T>
void attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                        const T* out, const simd::Accumulator<T>* lse, const T* dout, T* dq, T* dk,
                        T* dv, void* workspace,
                        const AttentionExtras<simd::Accumulator<T>>& extras = {},
                        simd::Accumulator<T>* d_distance_bias = nullptr);

}  // namespace tessera::cpu
