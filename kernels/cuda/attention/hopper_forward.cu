// Flash attention forward in bf16 by wgmma, for compute capability 9.0.
//
// Floor: 4 b h lq lk d operations (half with a causal mask) over 989 TFLOP/s, the dense bf16 rate of an H100 or H200 by
// datasheet. The mark to reach is FlashAttention-3 (Shah et al. 2024) on an H100 with sequences of 16,384: 648 TFLOP/s
// at head_dim 128 (616 with a causal mask) and 497 (473) at 64, 66 and 50 %. At 64 a tile's 16,384 exponentials take
// the special function units (16 a cycle) as many cycles, 1024, as its products take the matrix units, and at 128 half
// as many. So, as there, a block's two warpgroups take turns: one computes exponentials while the other's products
// run; and within a warpgroup the scores of the next tile are begun before the probabilities of this one are
// multiplied with v. What stays visible is the first and last tile of a block: with two tiles (256 keys) little
// overlaps, and a block has a multiprocessor for itself. Expected: 50 to 65 % at head_dim 128 and 35 to 50 % at 64 in
// sequences of 4,096 and more. Not yet run on a GPU.
//
// A third warpgroup copies: k and v come by tensor maps into rings of two stages. Barriers in shared memory say what
// has come (`full`) and what all warps that compute are done with (`free`).
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/attention/hopper_attention.h"
#include "kernels/cuda/attention/hopper_tiles.h"

namespace tessera::cuda {
namespace {

constexpr int kQueries = kConsumers * kGroupRows, kKeys = 128, kStages = 2;

template <int kDim>
struct Shared {
  HopperTile<kQueries, kDim> q;
  HopperTile<kKeys, kDim> k[kStages], v[kStages];
  Mbarrier q_full, k_full[kStages], v_full[kStages], k_free[kStages], v_free[kStages];
};

// What a block computes.
struct Work {
  const QueryBlock& block;
  AttentionMask mask;
  Span keys;  // from the first tile's first to behind the last that any of the block's queries sees
  __device__ explicit Work(const AttentionShape& shape)
      : block(in_shared_memory(QueryBlock(shape, kQueries))),
        mask(shape),
        keys(tiles_of<kKeys>(mask.keys_of(block.row, min(kQueries, shape.queries - block.row)))) {}
  // The first tile of keys from `key` on that is not skipped.
  template <bool kSpecial>
  __device__ __forceinline__ int next(int key) const {
    return kSpecial ? mask.next_key_tile<kKeys, kQueries>(block.batch, block.row, key, keys.end) : key;
  }
};

// ---- The warpgroup that copies: one warp of it --------------------------------------------------------------------

template <bool kSpecial, int kDim>
__device__ __forceinline__ void copy(Shared<kDim>& shared, const AttentionShape& shape, const Work& work,
                                     const TensorMap* q, const TensorMap* k, const TensorMap* v) {
  const QueryBlock& block = work.block;
  const int kv_head = block.head / (shape.heads / shape.kv_heads);
  const bool asks = lane_of_warp() == 0;
  if (asks) {
    mbarrier_arrive_expect(&shared.q_full, shared.q.kBytes);
    copy_tile_async(shared.q, q, block.head, block.row, block.batch, &shared.q_full);
  }
  RingPlace at;
  for (int key = work.next<kSpecial>(work.keys.begin); key < work.keys.end; key = work.next<kSpecial>(key + kKeys)) {
    if (asks) {
      mbarrier_wait(&shared.k_free[at.stage], at.parity ^ 1);
      mbarrier_arrive_expect(&shared.k_full[at.stage], shared.k[0].kBytes);
      copy_tile_async(shared.k[at.stage], k, kv_head, key, block.batch, &shared.k_full[at.stage]);
      mbarrier_wait(&shared.v_free[at.stage], at.parity ^ 1);
      mbarrier_arrive_expect(&shared.v_full[at.stage], shared.v[0].kBytes);
      copy_tile_async(shared.v[at.stage], v, kv_head, key, block.batch, &shared.v_full[at.stage]);
    }
    __syncwarp();
    at.template advance<kStages>();
  }
}

// ---- Those that compute -------------------------------------------------------------------------------------------

// The rows of a lane: g + 8 r.
struct Softmax {
  float reference[2] = {-INFINITY, -INFINITY};  // subtracted from the scores, in base 2
  float sum[2] = {0.0f, 0.0f};                  // of this lane's columns
};

// Turns scores into exp2(scale2 * score - reference); what was summed before is to be multiplied by `correction`, or
// stays as it is where the result, the same in the whole warp, is false. As in tensor_forward.cu the reference is
// the row's maximum when it was last moved, and moves when the maximum has grown by more than 2^kSlack since.
template <int N>
__device__ __forceinline__ bool online_softmax(float (&score)[N][4], float (&correction)[2], Softmax& state,
                                               float scale2) {
  constexpr float kSlack = 8.0f;
  bool moved = false;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float maximum = -INFINITY;
#pragma unroll
    for (int n = 0; n < N; ++n) maximum = fmaxf(maximum, fmaxf(score[n][2 * r], score[n][2 * r + 1]));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = scale2 * fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    const float before = state.reference[r];
    const bool move = maximum > before + kSlack;
    const float reference = move ? maximum : before;
    state.reference[r] = reference;
    // A query that has seen nothing yet: any finite number, so that exp2(-inf - it) is 0.
    const float subtract = reference == -INFINITY ? 0.0f : reference;
    correction[r] = exp2_approx(before - subtract);
    moved |= move;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        score[n][i] = exp2_approx(fmaf(score[n][i], scale2, -subtract));
        sum += score[n][i];
      }
    }
    state.sum[r] = fmaf(state.sum[r], correction[r], sum);
  }
  return __any_sync(0xffffffffu, moved);
}

// Divides by the sums, and writes lse for the warp's queries below `rows`.
template <int D>
__device__ __forceinline__ void finish(float (&out)[D][4], const Softmax& state, float* lse, int rows) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int d = 0; d < D; ++d) {
      out[d][2 * r] *= inverse;
      out[d][2 * r + 1] *= inverse;
    }
    const int row = lane / 4 + 8 * r;
    if (lane % 4 == 0 && row < rows)
      lse[row] = sum == 0.0f ? -INFINITY : state.reference[r] * kLn2 + logf(sum);
  }
}

template <int D>
__device__ __forceinline__ void multiply_rows(float (&out)[D][4], const float (&factor)[2]) {
#pragma unroll
  for (int d = 0; d < D; ++d)
#pragma unroll
    for (int i = 0; i < 4; ++i) out[d][i] *= factor[i / 2];
}

// The group's number worked out once more: through the loop it would be one register too many.
__device__ __forceinline__ int group_again() { return static_cast<int>(opaque(threadIdx.x)) / kGroupThreads - 1; }

// All of the block's keys: adds to `out`, the sums not yet divided, and to `state`. The warp's rows begin at first_row.
template <bool kSpecial, int kDim>
__device__ __forceinline__ void attend(float (&out)[kDim / 8][4], Softmax& state, Shared<kDim>& shared,
                                       const AttentionShape& shape, const Work& work, int group, int first_row) {
  const QueryBlock& block = work.block;
  const float scale2 = shape.scale * kLog2E;
  float score[kKeys / 8][4], correction[2];
  uint32_t probability[kKeys / 16][4];

  const auto softmax_of = [&](int key) {
    if (kSpecial && work.mask.is_special<16, kKeys>(block.batch, first_row, key))
      add_bias_and_segments<false>(work.mask, as_one(score), block.batch, block.head, first_row, key);
    if (work.mask.is_cut<16, kKeys, false>(first_row, key))
      hide_unseen<false>(work.mask, as_one(score), first_row, key);
    return online_softmax(score, correction, state, scale2);
  };

  int key = uniform(work.next<kSpecial>(work.keys.begin));
  if (key >= work.keys.end) return;
  int next = uniform(work.next<kSpecial>(key + kKeys));
  RingPlace now, last;  // of the tile whose scores are computed, and of the one before
  // Turns begin with the first group, which this tells it.
  if (group == kConsumers - 1 && next < work.keys.end) barrier_arrive(kTurnBarrier, kConsumers * kGroupThreads);
  mbarrier_wait(&shared.k_full[0], 0);
  wgmma_fence();
  begin_product_transposed(score, shared.q, group * kGroupRows, shared.k[0]);
  wgmma_commit();
  wgmma_wait<0>();
  hold(score);
  release(&shared.k_free[0]);
  softmax_of(key);
  pack_left(score, probability);
  mbarrier_wait(&shared.v_full[0], 0);
  while (next < work.keys.end) {
    key = next;
    next = uniform(work.next<kSpecial>(key + kKeys));
    now.template advance<kStages>();
    mbarrier_wait(&shared.k_full[now.stage], now.parity);
    barrier_sync(kTurnBarrier + group_again(), kConsumers * kGroupThreads);
    hold(out);
    hold(probability);
    wgmma_fence();
    begin_product_transposed(score, shared.q, group * kGroupRows, shared.k[now.stage]);
    wgmma_commit();
    begin_product(out, probability, shared.v[last.stage]);
    wgmma_commit();
    if (const int own = group_again(); own == 0 || next < work.keys.end)
      barrier_arrive(kTurnBarrier + 1 - own, kConsumers * kGroupThreads);
    wgmma_wait<1>();
    hold(score);
    release(&shared.k_free[now.stage]);
    const bool moved = softmax_of(key);
    // The compiler would begin to wait for the products before the exponentials, which they are to run beside. It
    // moves nothing over the branch of this wait, which the next products need anyway.
    hold(score);
    mbarrier_wait(&shared.v_full[now.stage], now.parity);
    wgmma_wait<0>();
    hold(out);
    release(&shared.v_free[last.stage]);
    pack_left(score, probability);
    if (moved) multiply_rows(out, correction);
    last = now;
  }
  // v's rows behind the last key that is seen.
  if (key + kKeys > work.keys.end && work.keys.end < shape.keys)
    clear_rows(shared.v[last.stage], work.keys.end - key, group_again());
  hold(out);
  hold(probability);
  wgmma_fence();
  begin_product(out, probability, shared.v[last.stage]);
  wgmma_commit();
  wgmma_wait<0>();
  hold(out);
}

template <bool kSpecial, int kDim>
__device__ __forceinline__ void compute(Shared<kDim>& shared, const AttentionShape& shape, const Work& work, int group,
                                        bf16* to, float* lse) {
  const QueryBlock& block = work.block;
  const auto row_of = [](int group) { return group * kGroupRows + 16 * warp_of_group(); };
  float out[kDim / 8][4];
  set_zero(out);
  Softmax state;
  mbarrier_wait(&shared.q_full, 0);
  attend<kSpecial>(out, state, shared, shape, work, group, block.row + row_of(group));
  const int rows = shape.queries - block.row, own = group_again(), warp_row = row_of(own);
  finish(out, state, lse + statistics_offset(shape, block.batch, block.row + warp_row, block.head), rows - warp_row);
  store_rows(out, 1.0f, shared.q, own, to + query_offset(shape, block.batch, block.row, block.head),
             shape.heads * shape.head_dim, rows);
}

// kSpecial: with segments or a bias, which take registers also where there are none.
template <int kDim, bool kSpecial>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_forward_kernel(AttentionShape shape, const __grid_constant__ TensorMap q,
                          const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, bf16* out,
                          float* lse) {
  if constexpr (kHasWarpgroups) {
    Shared<kDim>& shared = aligned_shared<Shared<kDim>>();
    if (threadIdx.x == 0) {
      prefetch_tensor_map(&q);
      prefetch_tensor_map(&k);
      prefetch_tensor_map(&v);
      mbarrier_init(&shared.q_full, 1);
      for (int stage = 0; stage < kStages; ++stage) {
        mbarrier_init(&shared.k_full[stage], 1);
        mbarrier_init(&shared.v_full[stage], 1);
        mbarrier_init(&shared.k_free[stage], kConsumerWarps);
        mbarrier_init(&shared.v_free[stage], kConsumerWarps);
      }
      mbarrier_init_fence();
    }
    __syncthreads();
    const Work work(shape);
    const int group = warp_group();
    if (group == 0) {
      give_registers<kCopyRegisters>();
      if (threadIdx.x < 32) copy<kSpecial>(shared, shape, work, &q, &k, &v);
    } else {
      take_registers<kComputeRegisters>();
      compute<kSpecial>(shared, shape, work, group - 1, out, lse);
    }
  } else {
    __trap();  // the host chooses by compute capability
  }
}

}  // namespace

bool hopper_attention_takes(const AttentionShape& shape, int major, int minor) {
  // Tensor maps have no empty dims.
  return major == 9 && minor == 0 && (shape.head_dim == 64 || shape.head_dim == 128) && shape.batch > 0 &&
         shape.queries > 0 && shape.keys > 0 && shape.kv_heads > 0;
}

void hopper_attention_forward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v, bf16* out,
                              float* lse, cudaStream_t stream) {
  dispatch_head_dim(shape.head_dim, [&]<int kDim>() {
    const TensorMap q_map = tile_map<kQueries>(q, shape.batch, shape.queries, shape.heads, kDim),
                    k_map = tile_map<kKeys>(k, shape.batch, shape.keys, shape.kv_heads, kDim),
                    v_map = tile_map<kKeys>(v, shape.batch, shape.keys, shape.kv_heads, kDim);
    const bool special = shape.bias != nullptr || shape.q_segments != nullptr;
    launch(special ? hopper_forward_kernel<kDim, true> : hopper_forward_kernel<kDim, false>,
           dim3(query_grid(shape, kQueries)), dim3(kHopperThreads), kSharedBytesOf<Shared<kDim>>, stream, shape, q_map,
           k_map, v_map, out, lse);
  });
}

}  // namespace tessera::cuda
