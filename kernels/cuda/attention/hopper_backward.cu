// Flash attention backward in bf16 by wgmma, for compute capability 9.0, in two kernels without atomics.
//
// Floor: five products of 2 b h lq lk d operations each (half with a causal mask) over 989 TFLOP/s, the dense bf16 rate
// of an H100 or H200 by datasheet. Done are seven, as in tensor_backward.cu: every sum has one owner and a fixed
// order. So at most 71 % of the floor's rate; the mark to reach is FlashAttention-3 (Shah et al. 2024), which does
// five, adds dq by atomics, and reports 542 to 561 TFLOP/s at head_dim 128 in sequences of 4,096 and more. Expected of
// these: 350 to 430, counted as five products. What may hold the kernel of dk and dv back is shared memory: its scores
// and dprobabilities are products of 64 x 64, which read both operands there at just the rate that it has (128 bytes a
// cycle); all others have one in registers, and want half of it. Not yet run on a GPU.
//
// The kernel of dk and dv holds 128 keys and lets the queries of all heads of their group pass by, 64 at a time, that
// of dq the other way round. Scores and dprobabilities stay in registers from one product to the next, where they are
// left operands as they lie: transposed for dk and dv, so that each sum is over the tile that passes by.
//   p = exp2(scale2 score - lse2),  dscore = p (dout v^T - delta),
//   dv = p^T dout,  dk = scale dscore^T q,  dq = scale dscore k   (Dao et al. 2022, algorithm 4)
// While a warpgroup computes exponentials the other's products run, and the next one of its own.
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/attention/hopper_attention.h"
#include "kernels/cuda/attention/hopper_tiles.h"

namespace tessera::cuda {
namespace {

constexpr int kOwned = kConsumers * kGroupRows;  // rows of dk and dv, or of dq
constexpr int kPassing = 64;                     // of a tile that passes by
constexpr int kStages = 3;

// `own` are k and v, or q and dout; `first` and `second` q and dout, or k and v.
template <int kDim>
struct Shared {
  HopperTile<kOwned, kDim> own[2];
  HopperTile<kPassing, kDim> first[kStages], second[kStages];
  float lse2[kStages][kPassing], delta[kStages][kPassing];  // of the queries that pass by
  Mbarrier own_full, full[kStages], free[kStages];
};

// By one thread, before the block's first barrier.
template <int kDim>
__device__ __forceinline__ void init_barriers(Shared<kDim>& shared, int arrivals) {
  mbarrier_init(&shared.own_full, 1);
  for (int stage = 0; stage < kStages; ++stage) {
    mbarrier_init(&shared.full[stage], arrivals);
    mbarrier_init(&shared.free[stage], kConsumerWarps);
  }
  mbarrier_init_fence();
}

template <int kDim>
__device__ __forceinline__ void copy_own(Shared<kDim>& shared, const TensorMap* a, const TensorMap* b, int head,
                                         int row, int batch) {
  mbarrier_arrive_expect(&shared.own_full, 2 * shared.own[0].kBytes);
  copy_tile_async(shared.own[0], a, head, row, batch, &shared.own_full);
  copy_tile_async(shared.own[1], b, head, row, batch, &shared.own_full);
}
template <int kDim>
__device__ __forceinline__ void copy_passing(Shared<kDim>& shared, const TensorMap* a, const TensorMap* b, int head,
                                             int row, int batch, RingPlace at) {
  mbarrier_wait(&shared.free[at.stage], at.parity ^ 1);
  mbarrier_arrive_expect(&shared.full[at.stage], 2 * shared.first[0].kBytes);
  copy_tile_async(shared.first[at.stage], a, head, row, batch, &shared.full[at.stage]);
  copy_tile_async(shared.second[at.stage], b, head, row, batch, &shared.full[at.stage]);
}

// ---- dk and dv ----------------------------------------------------------------------------------------------------

struct KeyWork {
  const KeyBlock& block;
  AttentionMask mask;
  Span rows;              // of queries that see any of the block's keys
  int first_head, heads;  // the group's first; behind its last
  __device__ explicit KeyWork(const AttentionShape& shape)
      : block(in_shared_memory(KeyBlock(shape, kOwned))),
        mask(shape),
        rows(tiles_of<kPassing>(mask.queries_of(block.key, min(kOwned, shape.keys - block.key)))) {
    const int members = shape.heads / shape.kv_heads;
    first_head = uniform(block.head * members);
    heads = first_head + members;
  }
};

// Where the queries of a group of heads are, tile after tile of those that are not skipped.
template <bool kSpecial>
struct QueryWalk {
  const KeyWork& work;
  int head, first, row;
  __device__ __forceinline__ explicit QueryWalk(const KeyWork& of)
      : work(of), head(of.first_head), first(next(of.rows.begin)), row(first) {}
  __device__ __forceinline__ bool more() const { return first < work.rows.end && head < work.heads; }
  __device__ __forceinline__ void advance() {
    row = next(row + kPassing);
    if (row < work.rows.end) return;
    row = first;
    ++head;
  }

 private:
  __device__ __forceinline__ int next(int at) const {
    return kSpecial ? uniform(work.mask.next_query_tile<kPassing, kOwned>(work.block.batch, work.block.key, at,
                                                                          work.rows.end))
                    : at;
  }
};

// Two warps: one asks for the tiles, one fetches the statistics of their queries. A full stage has 33 arrivals.
template <bool kSpecial, int kDim>
__device__ __forceinline__ void copy_for_keys(Shared<kDim>& shared, const AttentionShape& shape, const KeyWork& work,
                                              const RowStatistics* statistics, const TensorMap* q, const TensorMap* k,
                                              const TensorMap* v, const TensorMap* dout) {
  const int warp = warp_of_group(), lane = lane_of_warp(), batch = work.block.batch;
  RingPlace at;
  if (warp == 0) {
    if (lane == 0) copy_own(shared, k, v, work.block.head, work.block.key, batch);
    for (QueryWalk<kSpecial> walk(work); walk.more(); walk.advance()) {
      if (lane == 0) copy_passing(shared, q, dout, walk.head, walk.row, batch, at);
      __syncwarp();
      at.template advance<kStages>();
    }
  } else if (warp == 1) {
    for (QueryWalk<kSpecial> walk(work); walk.more(); walk.advance()) {
      const RowStatistics* const from = statistics + statistics_offset(shape, batch, walk.row, walk.head);
      mbarrier_wait(&shared.free[at.stage], at.parity ^ 1);
#pragma unroll
      for (int row = 0; row < kPassing; row += 32) {
        // Queries behind the last have probabilities of 0.
        const RowStatistics one =
            walk.row + row + lane < shape.queries ? from[row + lane] : RowStatistics{INFINITY, 0.0f};
        shared.lse2[at.stage][row + lane] = one.lse2;
        shared.delta[at.stage][row + lane] = one.delta;
      }
      mbarrier_arrive(&shared.full[at.stage]);
      at.template advance<kStages>();
    }
  }
}

template <bool kSpecial, int kDim>
__device__ __forceinline__ void compute_keys(Shared<kDim>& shared, const AttentionShape& shape, const KeyWork& work,
                                             int group, bf16* dk_to, bf16* dv_to) {
  constexpr int N = kPassing / 8;
  const int lane = lane_of_warp(), own_row = group * kGroupRows;
  const int warp_key = work.block.key + own_row + 16 * warp_of_group();
  const float scale2 = shape.scale * kLog2E;
  float dk[kDim / 8][4], dv[kDim / 8][4];
  set_zero(dk);
  set_zero(dv);
  RingPlace at;
  mbarrier_wait(&shared.own_full, 0);
  for (QueryWalk<kSpecial> walk(work); walk.more(); walk.advance()) {
    const int stage = at.stage;
    // Of this lane's columns, two at a time.
    const auto* const all_lse2 = reinterpret_cast<const float2*>(shared.lse2[stage]) + lane % 4;
    const auto* const all_delta = reinterpret_cast<const float2*>(shared.delta[stage]) + lane % 4;
    float probability[N][4], dscore[N][4];
    uint32_t left_p[N / 2][4], left_d[N / 2][4];
    mbarrier_wait(&shared.full[stage], at.parity);
    wgmma_fence();
    begin_product_transposed(probability, shared.own[0], own_row, shared.first[stage]);
    wgmma_commit();
    begin_product_transposed(dscore, shared.own[1], own_row, shared.second[stage]);
    wgmma_commit();
    wgmma_wait<1>();  // scores
    hold(probability);
    if (kSpecial && work.mask.is_special<kPassing, 16>(work.block.batch, walk.row, warp_key))
      add_bias_and_segments<true>(work.mask, as_one(probability), work.block.batch, walk.head, walk.row, warp_key);
    if (work.mask.is_cut<kPassing, 16, true>(walk.row, warp_key))
      hide_unseen<true>(work.mask, as_one(probability), walk.row, warp_key);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float2 lse2 = all_lse2[4 * n];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        probability[n][i] = exp2_approx(fmaf(probability[n][i], scale2, i % 2 == 0 ? -lse2.x : -lse2.y));
    }
    pack_left(probability, left_p);
    hold(left_p);
    wgmma_fence();
    begin_product(dv, left_p, shared.second[stage]);
    wgmma_commit();
    wgmma_wait<1>();  // dprobabilities
    hold(dscore);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float2 delta = all_delta[4 * n];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        dscore[n][i] = probability[n][i] * (dscore[n][i] - (i % 2 == 0 ? delta.x : delta.y));
    }
    pack_left(dscore, left_d);
    hold(left_d);
    wgmma_fence();
    begin_product(dk, left_d, shared.first[stage]);
    wgmma_commit();
    // Not carried into the next tile: that takes registers which heads of 128 have not got, and the other warpgroup
    // keeps the matrix units busy.
    wgmma_wait<0>();
    hold(dk);
    hold(dv);
    release(&shared.free[stage]);
    at.template advance<kStages>();
  }
  const int rows = shape.keys - work.block.key, step = shape.kv_heads * shape.head_dim;
  const int64_t to = key_offset(shape, work.block.batch, work.block.key, work.block.head);
  store_rows(dk, shape.scale, shared.own[0], group, dk_to + to, step, rows);
  store_rows(dv, 1.0f, shared.own[1], group, dv_to + to, step, rows);
}

// kSpecial, here and below: with segments or a bias, which take registers also where there are none.
template <int kDim, bool kSpecial>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_key_kernel(AttentionShape shape, const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                      const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
                      const RowStatistics* statistics, bf16* dk, bf16* dv) {
  if constexpr (kHasWarpgroups) {
    Shared<kDim>& shared = aligned_shared<Shared<kDim>>();
    if (threadIdx.x == 0) init_barriers(shared, 1 + 32);
    __syncthreads();
    const KeyWork work(shape);
    const int group = warp_group();
    if (group == 0) {
      give_registers<kCopyRegisters>();
      copy_for_keys<kSpecial>(shared, shape, work, statistics, &q, &k, &v, &dout);
    } else {
      take_registers<kComputeRegisters>();
      compute_keys<kSpecial>(shared, shape, work, group - 1, dk, dv);
    }
  } else {
    __trap();  // the host chooses by compute capability
  }
}

// ---- dq -----------------------------------------------------------------------------------------------------------

struct QueryWork {
  QueryBlock block;
  AttentionMask mask;
  Span keys;  // that any of the block's queries sees
  __device__ explicit QueryWork(const AttentionShape& shape)
      : block(shape, kOwned),
        mask(shape),
        keys(tiles_of<kPassing>(mask.keys_of(block.row, min(kOwned, shape.queries - block.row)))) {}
  // The first tile of keys from `key` on that is not skipped.
  template <bool kSpecial>
  __device__ __forceinline__ int next(int key) const {
    return kSpecial ? uniform(mask.next_key_tile<kPassing, kOwned>(block.batch, block.row, key, keys.end)) : key;
  }
};

// By one warp.
template <bool kSpecial, int kDim>
__device__ __forceinline__ void copy_for_queries(Shared<kDim>& shared, const AttentionShape& shape,
                                                 const QueryWork& work, const TensorMap* q, const TensorMap* k,
                                                 const TensorMap* v, const TensorMap* dout) {
  const QueryBlock& block = work.block;
  const int kv_head = block.head / (shape.heads / shape.kv_heads);
  const bool asks = lane_of_warp() == 0;
  if (asks) copy_own(shared, q, dout, block.head, block.row, block.batch);
  RingPlace at;
  for (int key = work.next<kSpecial>(work.keys.begin); key < work.keys.end; key = work.next<kSpecial>(key + kPassing)) {
    if (asks) copy_passing(shared, k, v, kv_head, key, block.batch, at);
    __syncwarp();
    at.template advance<kStages>();
  }
}

template <bool kSpecial, int kDim>
__device__ __forceinline__ void compute_queries(Shared<kDim>& shared, const AttentionShape& shape,
                                                const QueryWork& work, int group, const RowStatistics* statistics,
                                                bf16* dq_to) {
  constexpr int N = kPassing / 8;
  const QueryBlock& block = work.block;
  const int own_row = group * kGroupRows, warp_row = block.row + own_row + 16 * warp_of_group();
  const float scale2 = shape.scale * kLog2E;
  RowStatistics row_statistics[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = warp_row + lane_of_warp() / 4 + 8 * r;
    row_statistics[r] = row < shape.queries ? statistics[statistics_offset(shape, block.batch, row, block.head)]
                                            : RowStatistics{INFINITY, 0.0f};
  }
  float dq[kDim / 8][4];
  set_zero(dq);
  RingPlace at;
  // Left operands from registers: from shared memory they would take as much of its rate as the right ones.
  uint32_t left_q[kDim / 16][4], left_dout[kDim / 16][4];
  mbarrier_wait(&shared.own_full, 0);
  load_left(left_q, shared.own[0], own_row);
  load_left(left_dout, shared.own[1], own_row);
  int key = work.next<kSpecial>(work.keys.begin);
  if (key < work.keys.end) mbarrier_wait(&shared.full[0], 0);
  while (key < work.keys.end) {
    const int stage = at.stage, next = work.next<kSpecial>(key + kPassing);
    float score[N][4], dscore[N][4];
    uint32_t left[N / 2][4];
    if (key + kPassing > work.keys.end && work.keys.end < shape.keys) {
      clear_rows(shared.first[stage], work.keys.end - key, group);
      clear_rows(shared.second[stage], work.keys.end - key, group);
    }
    wgmma_fence();
    begin_product_transposed(score, left_q, shared.first[stage]);
    wgmma_commit();
    begin_product_transposed(dscore, left_dout, shared.second[stage]);
    wgmma_commit();
    wgmma_wait<1>();  // scores
    hold(score);
    if (kSpecial && work.mask.is_special<16, kPassing>(block.batch, warp_row, key))
      add_bias_and_segments<false>(work.mask, as_one(score), block.batch, block.head, warp_row, key);
    if (work.mask.is_cut<16, kPassing, false>(warp_row, key))
      hide_unseen<false>(work.mask, as_one(score), warp_row, key);
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        score[n][i] = exp2_approx(fmaf(score[n][i], scale2, -row_statistics[i / 2].lse2));
    }
    // As in the forward kernel: exponentials come before this wait, behind which the compiler would put them.
    hold(score);
    if (next < work.keys.end) at.template advance<kStages>();  // else this tile's, which has come
    mbarrier_wait(&shared.full[at.stage], at.parity);
    wgmma_wait<0>();  // dprobabilities
    hold(dscore);
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) dscore[n][i] = score[n][i] * (dscore[n][i] - row_statistics[i / 2].delta);
    }
    pack_left(dscore, left);
    hold(left);
    wgmma_fence();
    begin_product(dq, left, shared.first[stage]);
    wgmma_commit();
    wgmma_wait<0>();
    hold(dq);
    release(&shared.free[stage]);
    key = next;
  }
  store_rows(dq, shape.scale, shared.own[0], group,
             dq_to + query_offset(shape, block.batch, block.row, block.head), shape.heads * shape.head_dim,
             shape.queries - block.row);
}

template <int kDim, bool kSpecial>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_query_kernel(AttentionShape shape, const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                        const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
                        const RowStatistics* statistics, bf16* dq) {
  if constexpr (kHasWarpgroups) {
    Shared<kDim>& shared = aligned_shared<Shared<kDim>>();
    if (threadIdx.x == 0) init_barriers(shared, 1);
    __syncthreads();
    const QueryWork work(shape);
    const int group = warp_group();
    if (group == 0) {
      give_registers<kCopyRegisters>();
      if (threadIdx.x < 32) copy_for_queries<kSpecial>(shared, shape, work, &q, &k, &v, &dout);
    } else {
      take_registers<kComputeRegisters>();
      compute_queries<kSpecial>(shared, shape, work, group - 1, statistics, dq);
    }
  } else {
    __trap();  // the host chooses by compute capability
  }
}

}  // namespace

void hopper_attention_backward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                               const RowStatistics* statistics, const bf16* dout, bf16* dq, bf16* dk, bf16* dv,
                               cudaStream_t stream) {
  dispatch_head_dim(shape.head_dim, [&]<int kDim>() {
    const auto of_queries = [&]<int kRows>(const bf16* data) {
      return tile_map<kRows>(data, shape.batch, shape.queries, shape.heads, kDim);
    };
    const auto of_keys = [&]<int kRows>(const bf16* data) {
      return tile_map<kRows>(data, shape.batch, shape.keys, shape.kv_heads, kDim);
    };
    constexpr int64_t kSharedBytes = kSharedBytesOf<Shared<kDim>>;
    const bool special = shape.bias != nullptr || shape.q_segments != nullptr;
    launch(special ? hopper_key_kernel<kDim, true> : hopper_key_kernel<kDim, false>, dim3(key_grid(shape, kOwned)),
           dim3(kHopperThreads), kSharedBytes, stream, shape, of_queries.template operator()<kPassing>(q),
           of_keys.template operator()<kOwned>(k), of_keys.template operator()<kOwned>(v),
           of_queries.template operator()<kPassing>(dout), statistics, dk, dv);
    // dq may be dout, and comes last.
    launch(special ? hopper_query_kernel<kDim, true> : hopper_query_kernel<kDim, false>,
           dim3(query_grid(shape, kOwned)), dim3(kHopperThreads), kSharedBytes, stream, shape,
           of_queries.template operator()<kOwned>(q), of_keys.template operator()<kPassing>(k),
           of_keys.template operator()<kPassing>(v), of_queries.template operator()<kOwned>(dout), statistics, dq);
  });
}

}  // namespace tessera::cuda
