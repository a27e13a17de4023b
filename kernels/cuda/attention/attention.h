// Attention in tiles with an online softmax (Dao et al. 2022, FlashAttention; 2023, FlashAttention-2): no
// length x length memory, and the backward pass recomputes the probabilities from the log-sum-exp.
//
// Floor: arithmetic. Forward does 4 b h lq lk d operations (half of it with a causal mask), backward 2.5 times
// that, at the rate of the tensor cores; ours does 3.5 times, since dq and (dk, dv) come from two kernels that
// each recompute the scores, which keeps every sum in one thread and so the same bits in every run. Bytes are
// far below: forward reads q, k, v and writes out once, backward moves about eight such tensors.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Least and largest segment of kSegmentRows queries or keys that follow each other.
struct alignas(8) SegmentRange {
  int32_t least, largest;
};
inline constexpr int kSegmentRows = 32;
inline int64_t segment_ranges(int64_t batch, int64_t length) {
  return batch * ((length + kSegmentRows - 1) / kSegmentRows);
}

// Stands for no window: so many keys before itself no query has.
inline constexpr int kNoWindow = 1 << 29;

struct AttentionShape {
  int batch = 0, queries = 0, keys = 0;       // lengths below 2^28
  int heads = 0, kv_heads = 0, head_dim = 0;  // query head i reads key head i / (heads / kv_heads)
  bool causal = true;                         // the query at position p sees keys 0..p
  int window = kNoWindow;                     // with causal, below 2^28: and of these p - window + 1..p
  float scale = 1.0f;                         // on the scores; positive
  const int64_t* start = nullptr;             // on the device: position of query 0; null is 0. Keys start at 0

  // [batch, queries] and [batch, keys], or null: and of these the keys of its own segment. Of both the ranges, as
  // find_segment_ranges writes them.
  const int32_t *q_segments = nullptr, *k_segments = nullptr;
  SegmentRange *q_ranges = nullptr, *k_ranges = nullptr;

  // [heads, bias_size] or null: added to the scaled score is bias[head, p - key + bias_origin], the index clamped to the
  // bias.
  const float* bias = nullptr;
  int bias_size = 0;        // below 2^28
  int64_t bias_origin = 0;  // within 2^40
};

// What the backward kernels need of each query, [batch, heads, queries]; their workspace.
struct alignas(8) RowStatistics {
  float lse2;   // log-sum-exp in base 2; +inf where no key is seen, so that exp2(score - lse2) is 0
  float delta;  // sum over the head of out * dout
};

// Head sizes of the tensor cores' kernels: multiples of 8 up to this. The plain kernels take any up to theirs.
inline constexpr int kMaxTensorHeadDim = 128, kMaxPlainHeadDim = 256;

// q, out [batch, queries, heads, head_dim]; k, v [batch, keys, kv_heads, head_dim]; lse [batch, heads, queries],
// the log-sum-exp of the scaled scores. A query that sees no key gives out 0 and lse -infinity. `out` may be q.
void tensor_attention_forward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                              bf16* out, float* lse, cudaStream_t stream);
template <typename T>  // float or bf16
void plain_attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                             float* lse, cudaStream_t stream);

// To be called before all others where there are segments. Of the same segments k_ranges may be q_ranges.
void find_segment_ranges(const AttentionShape& shape, cudaStream_t stream);

// First step of both backward passes.
template <typename T>
void attention_statistics(const AttentionShape& shape, const T* out, const float* lse, const T* dout,
                          RowStatistics* statistics, cudaStream_t stream);

// dq like q, dk and dv like k. `dq` may be dout: it is written last, by those who have read its place.
void tensor_attention_backward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                               const RowStatistics* statistics, const bf16* dout, bf16* dq, bf16* dk, bf16* dv,
                               cudaStream_t stream);
template <typename T>
void plain_attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                              const RowStatistics* statistics, const T* dout, T* dq, T* dk, T* dv,
                              cudaStream_t stream);

// The bias' gradient d_bias [heads, bias_size], from what the backward passes have; it must come before them where dq
// lies over dout. `partials` is of bias_gradient_bytes.
int64_t bias_gradient_bytes(int64_t batch, int64_t heads, int64_t queries, int64_t keys);
void tensor_bias_gradient(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                          const RowStatistics* statistics, const bf16* dout, float* partials, float* d_bias,
                          cudaStream_t stream);
template <typename T>
void plain_bias_gradient(const AttentionShape& shape, const T* q, const T* k, const T* v,
                         const RowStatistics* statistics, const T* dout, float* partials, float* d_bias,
                         cudaStream_t stream);

}  // namespace tessera::cuda
