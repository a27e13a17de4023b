// Flash attention backward in bf16 by mma.sync, for sm_80 and later, in two kernels without atomics.
//
// Floor: five products of 2 b h lq lk d operations each (half with a causal mask). Done are seven: the kernel of
// dk and dv computes scores and dprobabilities transposed, with a block of keys at hand and the queries of all
// heads of its group passing by, and that of dq computes them again with a block of queries at hand. In return
// every sum has one owner and a fixed order, and dk, dv of grouped heads need no second pass.
//
// With p = exp2(scale2 score - lse2):  dscore = p (dout v^T - delta),
//   dv = p^T dout,  dk = scale dscore^T q,  dq = scale dscore k   (Dao et al. 2022, algorithm 4).
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/attention/attention_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

// Two stages of the tiles that pass by: while one is worked on the next is copied. Below 99 KB, what every
// device from sm_80 on has.
template <int kDim>
struct KeyTiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  // Sums of dk and dv take 32 M registers per 32 columns; beyond 64 columns only M = 1 fits.
  static constexpr int M = kDim <= 64 ? 2 : 1;
  static constexpr int kKeys = 16 * M * kWarps, kQueries = 32;
  static constexpr int kStageElements = 2 * kQueries * kTileStride<kDim>;  // q and dout
  static constexpr int64_t kSharedBytes =
      2 * kKeys * kTileRowBytes<kDim> + 2 * (2 * kStageElements + kQueries * int64_t{sizeof(RowStatistics)});
};
template <int kDim>
struct QueryTiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int M = kDim <= 64 ? 2 : 1;
  static constexpr int kQueries = 16 * M * kWarps, kKeys = 32;
  static constexpr int kStageElements = 2 * kKeys * kTileStride<kDim>;  // k and v
  static constexpr int64_t kSharedBytes = 2 * kQueries * kTileRowBytes<kDim> + 2 * 2 * kStageElements;
};

// One tile of queries of a head, from `row` on: adds to the warp's rows of dk (not yet scaled) and dv.
template <int kDim, int M>
__device__ __forceinline__ void add_queries(float (&dk)[M][kDim / 8][4], float (&dv)[M][kDim / 8][4],
                                            const bf16* k_tile, const bf16* v_tile, const bf16* q_tile,
                                            const bf16* dout_tile, const RowStatistics* statistics,
                                            const AttentionMask& mask, const KeyBlock& block, int head, int row,
                                            int warp_row) {
  constexpr int N = KeyTiles<kDim>::kQueries / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float probability[M][N][4];
  set_zero(probability);
  const int key = block.key + warp_row;
  if (mask.is_special<8 * N, 16 * M>(block.batch, row, key))
    add_bias_and_segments<true>(mask, probability, block.batch, head, row, key);
  add_product_transposed<kDim>(probability, k_tile, warp_row, q_tile);
  if (mask.is_cut<8 * N, 16 * M, true>(row, key)) hide_unseen<true>(mask, probability, row, key);
  const float scale2 = mask.shape.scale * kLog2E;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float lse2 = statistics[8 * n + lane % 4 * 2 + i].lse2;
#pragma unroll
      for (int m = 0; m < M; ++m) {
        probability[m][n][i] = exp2_approx(fmaf(probability[m][n][i], scale2, -lse2));
        probability[m][n][i + 2] = exp2_approx(fmaf(probability[m][n][i + 2], scale2, -lse2));
      }
    }
  }
  uint32_t left[M][N / 2][4];
  pack_left(probability, left);
  add_product<kDim>(dv, left, dout_tile);
  float dscore[M][N][4];
  set_zero(dscore);
  add_product_transposed<kDim>(dscore, v_tile, warp_row, dout_tile);
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float delta = statistics[8 * n + lane % 4 * 2 + i].delta;
#pragma unroll
      for (int m = 0; m < M; ++m) {
        dscore[m][n][i] = probability[m][n][i] * (dscore[m][n][i] - delta);
        dscore[m][n][i + 2] = probability[m][n][i + 2] * (dscore[m][n][i + 2] - delta);
      }
    }
  }
  pack_left(dscore, left);
  add_product<kDim>(dk, left, q_tile);
}

template <int kDim, bool kSpecial>
__global__ void __launch_bounds__(KeyTiles<kDim>::kThreads, 2)
    key_kernel(AttentionShape shape, const bf16* q, const bf16* k, const bf16* v, const RowStatistics* statistics,
               const bf16* dout, bf16* dk_out, bf16* dv_out) {
  if constexpr (!kSpecial) drop_special(shape);
  using Tiles = KeyTiles<kDim>;
  constexpr int M = Tiles::M, kKeys = Tiles::kKeys, kQueries = Tiles::kQueries, kThreads = Tiles::kThreads;
  bf16* k_tile = dynamic_shared<bf16>();                   // [kKeys, kDim]
  bf16* v_tile = k_tile + kKeys * kTileStride<kDim>;       // [kKeys, kDim]
  bf16* stages = v_tile + kKeys * kTileStride<kDim>;       // 2 x (q, dout [kQueries, kDim])
  RowStatistics* stage_statistics = reinterpret_cast<RowStatistics*>(stages + 2 * Tiles::kStageElements);

  const KeyBlock& block = in_shared_memory(KeyBlock(shape, kKeys));
  const int members = shape.heads / shape.kv_heads;
  const int q_step = shape.heads * shape.head_dim, k_step = shape.kv_heads * shape.head_dim;
  // Worked out where they are used.
  const auto rows = [&] { return min(kKeys, shape.keys - block.key); };
  const auto k_at = [&] { return key_offset(shape, block.batch, block.key, block.head); };
  const AttentionMask mask(shape);
  const Span queries = mask.queries_of(block.key, rows());
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16 * M;

  const auto next_tile = [&](int row) {
    return mask.next_query_tile<kQueries, kKeys>(block.batch, block.key, row, queries.end);
  };
  // Tile after tile of one head, and then of the next.
  const int first_row = next_tile(queries.begin / kQueries * kQueries);
  const int last_head = first_row < queries.end ? (block.head + 1) * members : 0;
  int head = block.head * members, row = first_row;
  const auto copy_next = [&](int stage) {
    const unsigned thread = opaque(threadIdx.x);
    const int left = shape.queries - row;
    const int64_t at = query_offset(shape, block.batch, row, head);
    bf16* to = stages + stage * Tiles::kStageElements;
    copy_tile<kDim, kQueries, kThreads>(to, q + at, q_step, left, shape.head_dim, thread);
    copy_tile<kDim, kQueries, kThreads>(to + kQueries * kTileStride<kDim>, dout + at, q_step, left, shape.head_dim,
                                           thread);
    // Beyond the last query: zeros, with which q = dout = 0 add nothing.
    const int own = static_cast<int>(thread);
    if (own < kQueries)
      copy_async<8>(stage_statistics + stage * kQueries + own,
                    statistics + statistics_offset(shape, block.batch, row + own, head), own < left);
  };

  copy_tile<kDim, kKeys, kThreads>(k_tile, k + k_at(), k_step, rows(), shape.head_dim);
  copy_tile<kDim, kKeys, kThreads>(v_tile, v + k_at(), k_step, rows(), shape.head_dim);
  if (head < last_head) copy_next(0);
  copy_async_commit();
  float dk[M][kDim / 8][4], dv[M][kDim / 8][4];
  set_zero(dk);
  set_zero(dv);
  for (int stage = 0; head < last_head; stage = 1 - stage) {
    const int this_head = head, this_row = row;
    row = next_tile(row + kQueries);
    if (row >= queries.end) {
      row = first_row;
      ++head;
    }
    if (head < last_head) copy_next(1 - stage);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // the tile has come
    const bf16* q_tile = stages + stage * Tiles::kStageElements;
    add_queries<kDim>(dk, dv, k_tile, v_tile, q_tile, q_tile + kQueries * kTileStride<kDim>,
                      stage_statistics + stage * kQueries, mask, block, this_head, this_row, warp_row);
    __syncthreads();  // its place is free
  }
  copy_async_wait<0>();
  __syncthreads();
  multiply(dk, shape.scale);
  store_tile<kDim, kKeys, kThreads>(dk, warp_row, k_tile, dk_out + k_at(), k_step, rows(), shape.head_dim);
  store_tile<kDim, kKeys, kThreads>(dv, warp_row, v_tile, dv_out + k_at(), k_step, rows(), shape.head_dim);
}

// One tile of keys, from `key` on: adds to the warp's rows of dq (not yet scaled).
template <int kDim, int M>
__device__ __forceinline__ void add_keys(float (&dq)[M][kDim / 8][4], const RowStatistics (&statistics)[M][2],
                                         const bf16* q_tile, const bf16* dout_tile, const bf16* k_tile,
                                         const bf16* v_tile, const AttentionMask& mask, const QueryBlock& block,
                                         int key, int warp_row) {
  constexpr int N = QueryTiles<kDim>::kKeys / 8;
  float score[M][N][4], dscore[M][N][4];
  set_zero(score);
  const int row = block.row + warp_row;
  if (mask.is_special<16 * M, 8 * N>(block.batch, row, key))
    add_bias_and_segments<false>(mask, score, block.batch, block.head, row, key);
  add_product_transposed<kDim>(score, q_tile, warp_row, k_tile);
  if (mask.is_cut<16 * M, 8 * N, false>(row, key)) hide_unseen<false>(mask, score, row, key);
  set_zero(dscore);
  add_product_transposed<kDim>(dscore, dout_tile, warp_row, v_tile);
  const float scale2 = mask.shape.scale * kLog2E;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const RowStatistics of_row = statistics[m][i / 2];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const float probability = exp2_approx(fmaf(score[m][n][i], scale2, -of_row.lse2));
        dscore[m][n][i] = probability * (dscore[m][n][i] - of_row.delta);
      }
    }
  }
  uint32_t left[M][N / 2][4];
  pack_left(dscore, left);
  add_product<kDim>(dq, left, k_tile);
}

template <int kDim>
__global__ void __launch_bounds__(QueryTiles<kDim>::kThreads, 2)
    query_kernel(AttentionShape shape, const bf16* q, const bf16* k, const bf16* v,
                 const RowStatistics* statistics, const bf16* dout, bf16* dq_out) {
  using Tiles = QueryTiles<kDim>;
  constexpr int M = Tiles::M, kKeys = Tiles::kKeys, kQueries = Tiles::kQueries, kThreads = Tiles::kThreads;
  bf16* q_tile = dynamic_shared<bf16>();                      // [kQueries, kDim]
  bf16* dout_tile = q_tile + kQueries * kTileStride<kDim>;    // [kQueries, kDim]
  bf16* stages = dout_tile + kQueries * kTileStride<kDim>;    // 2 x (k, v [kKeys, kDim])

  const QueryBlock block(shape, kQueries);
  const int q_step = shape.heads * shape.head_dim, k_step = shape.kv_heads * shape.head_dim;
  const int rows = min(kQueries, shape.queries - block.row);
  const int64_t q_at = query_offset(shape, block.batch, block.row, block.head);
  const int64_t k_at = key_offset(shape, block.batch, 0, block.head / (shape.heads / shape.kv_heads));
  const AttentionMask mask(shape);
  const Span keys = mask.keys_of(block.row, rows);
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * M;

  const auto next_tile = [&](int key) {
    return mask.next_key_tile<kKeys, kQueries>(block.batch, block.row, key, keys.end);
  };
  const auto copy_keys = [&](int key, int stage) {
    const int64_t at = k_at + static_cast<int64_t>(key) * k_step;
    bf16* to = stages + stage * Tiles::kStageElements;
    copy_tile<kDim, kKeys, kThreads>(to, k + at, k_step, keys.end - key, shape.head_dim);
    copy_tile<kDim, kKeys, kThreads>(to + kKeys * kTileStride<kDim>, v + at, k_step, keys.end - key, shape.head_dim);
  };
  copy_tile<kDim, kQueries, kThreads>(q_tile, q + q_at, q_step, rows, shape.head_dim);
  copy_tile<kDim, kQueries, kThreads>(dout_tile, dout + q_at, q_step, rows, shape.head_dim);
  int key = next_tile(keys.begin / kKeys * kKeys);
  if (key < keys.end) copy_keys(key, 0);
  copy_async_commit();

  RowStatistics row_statistics[M][2];
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp_row + 16 * m + lane / 4 + 8 * r;
      row_statistics[m][r] =
          row < rows ? statistics[statistics_offset(shape, block.batch, block.row + row, block.head)]
                     : RowStatistics{INFINITY, 0.0f};
    }
  }
  float dq[M][kDim / 8][4];
  set_zero(dq);
  for (int stage = 0; key < keys.end; stage = 1 - stage) {
    const int this_key = key;
    key = next_tile(key + kKeys);
    if (key < keys.end) copy_keys(key, 1 - stage);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // the tile has come
    const bf16* k_tile = stages + stage * Tiles::kStageElements;
    add_keys<kDim>(dq, row_statistics, q_tile, dout_tile, k_tile, k_tile + kKeys * kTileStride<kDim>, mask, block,
                   this_key, warp_row);
    __syncthreads();  // its place is free
  }
  copy_async_wait<0>();
  __syncthreads();
  multiply(dq, shape.scale);
  store_tile<kDim, kQueries, kThreads>(dq, warp_row, q_tile, dq_out + q_at, q_step, rows, shape.head_dim);
}

}  // namespace

void tensor_attention_backward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                               const RowStatistics* statistics, const bf16* dout, bf16* dq, bf16* dk, bf16* dv,
                               cudaStream_t stream) {
  dispatch_tile_width(shape.head_dim, [&]<int kDim>() {
    const unsigned key_blocks = key_grid(shape, KeyTiles<kDim>::kKeys),
                   query_blocks = query_grid(shape, QueryTiles<kDim>::kQueries);
    if (key_blocks > 0)
      launch(is_special(shape) ? key_kernel<kDim, true> : key_kernel<kDim, kDim != 64>, dim3(key_blocks),
             dim3(KeyTiles<kDim>::kThreads), KeyTiles<kDim>::kSharedBytes, stream, shape, q, k, v, statistics, dout,
             dk, dv);
    if (query_blocks > 0)
      launch(query_kernel<kDim>, dim3(query_blocks), dim3(QueryTiles<kDim>::kThreads),
             QueryTiles<kDim>::kSharedBytes, stream, shape, q, k, v, statistics, dout, dq);
  });
}

}  // namespace tessera::cuda
