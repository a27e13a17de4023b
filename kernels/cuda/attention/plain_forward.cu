// Flash attention forward without tensor cores: f32 exactly as it stands, and bf16 in head sizes that
// tensor_forward.cu does not take.
//
// Floor: 4 b h lq lk d operations (half with a causal mask) at the multiply-add rate, 67 TFLOP/s on an H200. It is
// kept simple and reaches a part of that: shared memory feeds 64 multiply-adds per eight 16-byte reads at best.
#include <type_traits>

#include "kernels/cuda/attention/plain_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

// Over the 16 lanes that share rows.
template <typename Combine>
__device__ __forceinline__ float reduce_row(float x, Combine combine) {
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}

template <int kDim>
__global__ void __launch_bounds__(256, 2) plain_forward_kernel(PlainTensors tensors, void* out, float* lse) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R;
  const PlainShared<kDim> tiles;
  const PlainQueries<kDim> queries(tensors);
  const QueryBlock& place = queries.place;
  const PlainBlock<kDim>& block = queries.block;

  block.load_queries(tiles.q, tensors.q, place.row, place.head);
  typename Tiles::Sum sum = {};
  float maximum[R], total[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    maximum[i] = -INFINITY;
    total[i] = 0.0f;
  }
  for (int key = queries.first_tile(); key < queries.keys.end; key = queries.next_tile(key + Tiles::kRows)) {
    __syncthreads();  // the last tiles have been read
    block.load_keys(tiles.k, tensors.k, key, queries.kv_head);
    block.load_keys(tiles.v, tensors.v, key, queries.kv_head);
    __syncthreads();
    typename Tiles::Square score;
    plain_product_transposed<kDim>(score, tiles.q, tiles.k);
    block.template finish_scores<false>(score, tiles.square, place.head, place.row, key);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      float largest = maximum[i];
#pragma unroll
      for (int j = 0; j < R; ++j) largest = fmaxf(largest, score[i][j]);
      largest = reduce_row(largest, [](float a, float b) { return fmaxf(a, b); });
      // A query that has seen nothing yet: any finite number, so that exp2(-inf - it) is 0.
      const float subtract = largest == -INFINITY ? 0.0f : largest;
      const float correction = exp2f(maximum[i] - subtract);
      maximum[i] = largest;
      total[i] *= correction;
#pragma unroll
      for (int j = 0; j < R; ++j) {
        score[i][j] = exp2f(score[i][j] - subtract);
        total[i] += score[i][j];
      }
#pragma unroll
      for (int c = 0; c < 4 * Tiles::C; ++c) sum[i][c] *= correction;
    }
    store_square<kDim>(tiles.square, score);
    __syncthreads();
    add_plain_product<kDim>(sum, tiles.square, tiles.v);
  }
  float inverse[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int row = R * plain_y() + i;
    total[i] = reduce_row(total[i], [](float a, float b) { return a + b; });
    inverse[i] = total[i] == 0.0f ? 0.0f : 1.0f / total[i];
    if (plain_x() == 0 && row < queries.rows)
      lse[statistics_offset(tensors.shape, place.batch, place.row + row, place.head)] =
          total[i] == 0.0f ? -INFINITY : maximum[i] * kLn2 + logf(total[i]);
  }
  block.store(sum, inverse, out, queries.offset(), block.q_step, queries.rows);
}

}  // namespace

template <typename T>
void plain_attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out, float* lse,
                             cudaStream_t stream) {
  dispatch_plain_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = PlainTiles<kDim>;
    const unsigned grid = query_grid(shape, Tiles::kRows);
    if (grid > 0)
      launch(plain_forward_kernel<kDim>, dim3(grid), dim3(Tiles::kThreads), Tiles::kForwardBytes, stream,
             PlainTensors{shape, std::is_same_v<T, bf16>, q, k, v, nullptr, nullptr}, out, lse);
  });
}

template void plain_attention_forward(const AttentionShape&, const float*, const float*, const float*, float*,
                                      float*, cudaStream_t);
template void plain_attention_forward(const AttentionShape&, const bf16*, const bf16*, const bf16*, bf16*, float*,
                                      cudaStream_t);

}  // namespace tessera::cuda
