// Flash attention forward in bf16 by mma.sync, for sm_80 and later.
//
// Floor: 4 b h lq lk d operations (half with a causal mask) over the tensor cores' rate by datasheet, 312 TFLOP/s
// on an A100, 989 on an H100 or H200, of which mma.sync can have a part only (wgmma has the rest). Bytes: q, k, v
// and out once from memory; k and v once per block of queries from the second-level cache. A warp's 32 rows use
// each ldmatrix of k and v for two products: with 16 the 128 bytes per cycle of shared memory would be the limit
// and not the tensor cores. Not yet timed on a GPU.
//
// Windows, segments and biases cost nothing where they are absent: tiles that no query sees are not loaded, and the
// others corrected only where attention_mask.h says so. At 128 columns, where registers are short, segments and
// biases have a kernel of their own.
//
// A lane's sums (128 registers at 128 columns) and scores (64) leave 63 for the operands of products and for all
// else: nothing is spilled because what the loop seldom asks for lies in shared memory (Work), and the addresses of
// copies are worked out for each tile (opaque).
//
// Copies run beside the products: v's while the scores are computed, the next k's while the probabilities
// are multiplied with v.
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/attention/attention_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

template <int kDim>
struct Tiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int M = 2;  // a warp has 16 M queries
  static constexpr int kQueries = 16 * M * kWarps, kKeys = 64;
  static constexpr int64_t kSharedBytes = int64_t{kQueries + 2 * kKeys} * kTileRowBytes<kDim>;
  // 128 columns need 128 registers for the sums alone.
  static constexpr int kBlocks = 2;
};

// What a thread block computes.
struct Work {
  Work() = default;
  __device__ Work(const AttentionShape& shape, const AttentionMask& mask, int queries)
      : block(shape, queries),
        keys(mask.keys_of(block.row, min(queries, shape.queries - block.row))),
        k_at(key_offset(shape, block.batch, 0, block.head / (shape.heads / shape.kv_heads))) {}
  QueryBlock block;
  Span keys;     // that any of its queries sees
  int64_t k_at;  // where its head's keys begin, and values
};

// The rows of a lane: g + 8 r of each 16 m.
template <int M>
struct Softmax {
  float reference[M][2];  // subtracted from the scores, in base 2
  float sum[M][2];        // of this lane's columns
};

// Turns scores into exp2(scale2 * (score - reference)), and rescales what was summed under the old reference.
// That is the row's maximum when it was last moved: while the maximum has grown by less than 2^kSlack since,
// nothing can overflow and, since all of it is relative, nothing is less exact, and the rescaling, as much
// arithmetic as the softmax itself, is left out.
template <int M, int N, int D>
__device__ __forceinline__ void online_softmax(float (&score)[M][N][4], float (&out)[M][D][4],
                                               Softmax<M>& state, float scale2) {
  constexpr float kSlack = 8.0f;
  float correction[M][2];
  bool moved = false;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float maximum = -INFINITY;
#pragma unroll
      for (int n = 0; n < N; ++n) maximum = fmaxf(maximum, fmaxf(score[m][n][2 * r], score[m][n][2 * r + 1]));
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
      maximum = scale2 * fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
      const float before = state.reference[m][r];
      const bool move = maximum > before + kSlack;
      const float reference = move ? maximum : before;
      state.reference[m][r] = reference;
      // A query that has seen nothing yet: any finite number, so that exp2(-inf - it) is 0.
      const float subtract = reference == -INFINITY ? 0.0f : reference;
      correction[m][r] = exp2_approx(before - subtract);
      moved |= move;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          score[m][n][i] = exp2_approx(fmaf(score[m][n][i], scale2, -subtract));
          sum += score[m][n][i];
        }
      }
      state.sum[m][r] = fmaf(state.sum[m][r], correction[m][r], sum);
    }
  }
  if (!__any_sync(0xffffffffu, moved)) return;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[m][d][i] *= correction[m][i / 2];
    }
  }
}

// Divides by the sums, and writes lse for the warp's queries below `rows`.
template <int M, int D>
__device__ __forceinline__ void finish(float (&out)[M][D][4], const Softmax<M>& state, float* lse, int rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = state.sum[m][r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
      for (int d = 0; d < D; ++d) {
        out[m][d][2 * r] *= inverse;
        out[m][d][2 * r + 1] *= inverse;
      }
      const int row = 16 * m + lane / 4 + 8 * r;
      if (lane % 4 == 0 && row < rows)
        lse[row] = sum == 0.0f ? -INFINITY : state.reference[m][r] * kLn2 + logf(sum);
    }
  }
}

template <int kDim, bool kSpecial>
__global__ void __launch_bounds__(Tiles<kDim>::kThreads, Tiles<kDim>::kBlocks)
    forward_kernel(AttentionShape shape, const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse) {
  if constexpr (!kSpecial) drop_special(shape);
  using Tiles = Tiles<kDim>;
  constexpr int M = Tiles::M, kKeys = Tiles::kKeys, kThreads = Tiles::kThreads;
  bf16* q_tile = dynamic_shared<bf16>();                             // [kQueries, kDim]
  bf16* k_tile = q_tile + Tiles::kQueries * kTileStride<kDim>;       // [kKeys, kDim]
  bf16* v_tile = k_tile + kKeys * kTileStride<kDim>;                 // [kKeys, kDim]

  const AttentionMask mask(shape);
  const Work& work = in_shared_memory(Work(shape, mask, Tiles::kQueries));
  const QueryBlock& block = work.block;
  const Span& keys = work.keys;
  const int q_step = shape.heads * shape.head_dim, k_step = shape.kv_heads * shape.head_dim;
  // Worked out where they are used.
  const auto q_rows = [&] { return min(Tiles::kQueries, shape.queries - block.row); };
  const auto q_at = [&] { return query_offset(shape, block.batch, block.row, block.head); };
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * M;
  const float scale2 = shape.scale * kLog2E;

  const auto next_tile = [&](int key) {
    return mask.next_key_tile<kKeys, Tiles::kQueries>(block.batch, block.row, key, keys.end);
  };
  const auto copy_keys = [&](bf16* tile, const bf16* from, int key) {
    copy_tile<kDim, kKeys, kThreads>(tile, from + work.k_at + static_cast<int64_t>(key) * k_step, k_step,
                                     keys.end - key, shape.head_dim, opaque(threadIdx.x));
  };
  copy_tile<kDim, Tiles::kQueries, kThreads>(q_tile, q + q_at(), q_step, q_rows(), shape.head_dim);
  int key = next_tile(keys.begin / kKeys * kKeys);
  if (key < keys.end) copy_keys(k_tile, k, key);
  copy_async_commit();

  float sum[M][kDim / 8][4];
  set_zero(sum);
  Softmax<M> state;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    state.reference[m][0] = state.reference[m][1] = -INFINITY;
    state.sum[m][0] = state.sum[m][1] = 0.0f;
  }
  while (key < keys.end) {
    const int next = next_tile(key + kKeys);
    copy_async_wait<0>();
    __syncthreads();  // k has come, and v's tile is free
    copy_keys(v_tile, v, key);
    copy_async_commit();
    const int first_row = block.row + warp_row;
    float score[M][kKeys / 8][4];
    set_zero(score);
    if (mask.is_special<16 * M, kKeys>(block.batch, first_row, key))
      add_bias_and_segments<false>(mask, score, block.batch, block.head, first_row, key);
    add_product_transposed<kDim>(score, q_tile, warp_row, k_tile);
    if (mask.is_cut<16 * M, kKeys, false>(first_row, key)) hide_unseen<false>(mask, score, first_row, key);
    copy_async_wait<0>();
    __syncthreads();  // v has come, and k's tile is free
    key = next;
    if (key < keys.end) copy_keys(k_tile, k, key);
    copy_async_commit();
    online_softmax(score, sum, state, scale2);
    uint32_t probability[M][kKeys / 16][4];
    pack_left(score, probability);
    add_product<kDim>(sum, probability, v_tile);
  }
  finish(sum, state, lse + statistics_offset(shape, block.batch, block.row + warp_row, block.head),
         q_rows() - warp_row);
  copy_async_wait<0>();
  __syncthreads();  // where no key is seen, q may still be on its way to the tile that out goes through
  store_tile<kDim, Tiles::kQueries, kThreads>(sum, warp_row, q_tile, out + q_at(), q_step, q_rows(), shape.head_dim);
}

}  // namespace

void tensor_attention_forward(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                              bf16* out, float* lse, cudaStream_t stream) {
  dispatch_tile_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = Tiles<kDim>;
    const unsigned grid = query_grid(shape, Tiles::kQueries);
    if (grid > 0)
      launch(is_special(shape) ? forward_kernel<kDim, true> : forward_kernel<kDim, kDim < 128>, dim3(grid),
             dim3(Tiles::kThreads), Tiles::kSharedBytes, stream, shape, q, k, v, out, lse);
  });
}

}  // namespace tessera::cuda
