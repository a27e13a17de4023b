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

// Where the queries of a group of heads are, tile after tile.
struct QueryWalk {
  int head, row;
  __device__ void advance(int rows, int first_row, int queries) {
    row += rows;
    if (row < queries) return;
    row = first_row;
    ++head;
  }
};

// score [keys, queries] of one warp: what is hidden becomes -inf. The query of column c sees the key of row r where
// r <= c + shift.
template <int M, int N>
__device__ __forceinline__ void hide_transposed(float (&score)[M][N][4], int shift) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int least = 16 * m + lane / 4 + i / 2 * 8 - shift;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        if (8 * n + lane % 4 * 2 + i % 2 < least) score[m][n][i] = -INFINITY;
      }
    }
  }
}

// One tile of queries: adds to the warp's rows of dk (not yet scaled) and dv.
template <int kDim, int M>
__device__ __forceinline__ void add_queries(float (&dk)[M][kDim / 8][4], float (&dv)[M][kDim / 8][4],
                                            const bf16* k_tile, const bf16* v_tile, const bf16* q_tile,
                                            const bf16* dout_tile, const RowStatistics* statistics, int warp_row,
                                            float scale2, bool hidden, int shift) {
  constexpr int N = KeyTiles<kDim>::kQueries / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float probability[M][N][4];
  set_zero(probability);
  add_product_transposed<kDim>(probability, k_tile, warp_row, q_tile);
  if (hidden) hide_transposed(probability, shift);
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

template <int kDim>
__global__ void __launch_bounds__(KeyTiles<kDim>::kThreads, 2)
    key_kernel(AttentionShape shape, const bf16* q, const bf16* k, const bf16* v, const RowStatistics* statistics,
               const bf16* dout, bf16* dk_out, bf16* dv_out) {
  using Tiles = KeyTiles<kDim>;
  constexpr int M = Tiles::M, kKeys = Tiles::kKeys, kQueries = Tiles::kQueries, kThreads = Tiles::kThreads;
  bf16* k_tile = dynamic_shared<bf16>();                   // [kKeys, kDim]
  bf16* v_tile = k_tile + kKeys * kTileStride<kDim>;       // [kKeys, kDim]
  bf16* stages = v_tile + kKeys * kTileStride<kDim>;       // 2 x (q, dout [kQueries, kDim])
  RowStatistics* stage_statistics = reinterpret_cast<RowStatistics*>(stages + 2 * Tiles::kStageElements);

  const KeyBlock block(shape, kKeys);
  const int members = shape.heads / shape.kv_heads;
  const int q_step = shape.heads * shape.head_dim, k_step = shape.kv_heads * shape.head_dim;
  const int rows = min(kKeys, shape.keys - block.key);
  const int64_t k_at = key_offset(shape, block.batch, block.key, block.head);
  const int first = first_position(shape);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * M;
  const float scale2 = shape.scale * kLog2E;
  // Earlier queries see none of the block's keys.
  const int first_row = max(0, block.key - first) / kQueries * kQueries;
  const int tiles = first_row < shape.queries ? members * ((shape.queries - first_row + kQueries - 1) / kQueries) : 0;

  QueryWalk next{block.head * members, first_row};
  const auto copy_next = [&](int stage) {
    const int left = shape.queries - next.row;
    const int64_t at = query_offset(shape, block.batch, next.row, next.head);
    bf16* to = stages + stage * Tiles::kStageElements;
    copy_tile<kDim, kQueries, kThreads>(to, q + at, q_step, left, shape.head_dim);
    copy_tile<kDim, kQueries, kThreads>(to + kQueries * kTileStride<kDim>, dout + at, q_step, left, shape.head_dim);
    // Beyond the last query: zeros, with which q = dout = 0 add nothing.
    const int row = static_cast<int>(threadIdx.x);
    if (row < kQueries)
      copy_async<8>(stage_statistics + stage * kQueries + row,
                    statistics + statistics_offset(shape, block.batch, next.row + row, next.head), row < left);
    next.advance(kQueries, first_row, shape.queries);
  };

  copy_tile<kDim, kKeys, kThreads>(k_tile, k + k_at, k_step, rows, shape.head_dim);
  copy_tile<kDim, kKeys, kThreads>(v_tile, v + k_at, k_step, rows, shape.head_dim);
  if (tiles > 0) copy_next(0);
  copy_async_commit();
  float dk[M][kDim / 8][4], dv[M][kDim / 8][4];
  set_zero(dk);
  set_zero(dv);
  int row = first_row;
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % 2;
    if (tile + 1 < tiles) copy_next(1 - stage);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // the tile has come
    const bf16* q_tile = stages + stage * Tiles::kStageElements;
    add_queries<kDim>(dk, dv, k_tile, v_tile, q_tile, q_tile + kQueries * kTileStride<kDim>,
                      stage_statistics + stage * kQueries, warp_row, scale2, block.key + kKeys - 1 > first + row,
                      first + row - block.key - warp_row);
    __syncthreads();  // its place is free
    row += kQueries;
    if (row >= shape.queries) row = first_row;
  }
  copy_async_wait<0>();
  __syncthreads();
  multiply(dk, shape.scale);
  store_tile<kDim, kKeys, kThreads>(dk, warp_row, k_tile, dk_out + k_at, k_step, rows, shape.head_dim);
  store_tile<kDim, kKeys, kThreads>(dv, warp_row, v_tile, dv_out + k_at, k_step, rows, shape.head_dim);
}

// One tile of keys: adds to the warp's rows of dq (not yet scaled). Row r of the tile sees keys below seen + r.
template <int kDim, int M>
__device__ __forceinline__ void add_keys(float (&dq)[M][kDim / 8][4], const RowStatistics (&statistics)[M][2],
                                         const bf16* q_tile, const bf16* dout_tile, const bf16* k_tile,
                                         const bf16* v_tile, int warp_row, float scale2, bool hidden, int keys,
                                         int seen) {
  constexpr int N = QueryTiles<kDim>::kKeys / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float score[M][N][4], dscore[M][N][4];
  set_zero(score);
  set_zero(dscore);
  add_product_transposed<kDim>(score, q_tile, warp_row, k_tile);
  add_product_transposed<kDim>(dscore, dout_tile, warp_row, v_tile);
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const RowStatistics row = statistics[m][i / 2];
      const int limit = hidden ? min(keys, seen + 16 * m + lane / 4 + i / 2 * 8) : 8 * N;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const bool visible = 8 * n + lane % 4 * 2 + i % 2 < limit;
        const float probability = visible ? exp2_approx(fmaf(score[m][n][i], scale2, -row.lse2)) : 0.0f;
        dscore[m][n][i] = probability * (dscore[m][n][i] - row.delta);
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
  const int first = first_position(shape);
  const int seen = seen_keys(shape, first, block.row + rows - 1);  // by any of the block's queries
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * M;
  const float scale2 = shape.scale * kLog2E;

  const auto copy_keys = [&](int key, int stage) {
    const int64_t at = k_at + static_cast<int64_t>(key) * k_step;
    bf16* to = stages + stage * Tiles::kStageElements;
    copy_tile<kDim, kKeys, kThreads>(to, k + at, k_step, seen - key, shape.head_dim);
    copy_tile<kDim, kKeys, kThreads>(to + kKeys * kTileStride<kDim>, v + at, k_step, seen - key, shape.head_dim);
  };
  copy_tile<kDim, kQueries, kThreads>(q_tile, q + q_at, q_step, rows, shape.head_dim);
  copy_tile<kDim, kQueries, kThreads>(dout_tile, dout + q_at, q_step, rows, shape.head_dim);
  if (seen > 0) copy_keys(0, 0);
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
  for (int key = 0, stage = 0; key < seen; key += kKeys, stage = 1 - stage) {
    if (key + kKeys < seen) copy_keys(key + kKeys, 1 - stage);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // the tile has come
    const bf16* k_tile = stages + stage * Tiles::kStageElements;
    const int first_row = block.row + warp_row;
    add_keys<kDim>(dq, row_statistics, q_tile, dout_tile, k_tile, k_tile + kKeys * kTileStride<kDim>, warp_row,
                   scale2, key + kKeys > seen_keys(shape, first, first_row), shape.keys - key,
                   first + first_row + 1 - key);
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
      launch(key_kernel<kDim>, dim3(key_blocks), dim3(KeyTiles<kDim>::kThreads), KeyTiles<kDim>::kSharedBytes,
             stream, shape, q, k, v, statistics, dout, dk, dv);
    if (query_blocks > 0)
      launch(query_kernel<kDim>, dim3(query_blocks), dim3(QueryTiles<kDim>::kThreads),
             QueryTiles<kDim>::kSharedBytes, stream, shape, q, k, v, statistics, dout, dq);
  });
}

}  // namespace tessera::cuda
