// Flash attention forward without tensor cores: f32 exactly as it stands, and bf16 in head sizes that
// tensor_forward.cu does not take.
//
// Floor: 4 b h lq lk d operations (half with a causal mask) at the multiply-add rate, 67 TFLOP/s on an H200. It is
// kept simple and reaches a part of that: shared memory feeds 64 multiply-adds per eight 16-byte reads at best.
#include "kernels/cuda/attention/attention_block.h"
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

template <int kDim, typename T>
__global__ void __launch_bounds__(256) forward_kernel(AttentionShape shape, const T* q, const T* k, const T* v,
                                                      T* out, float* lse) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kRows = Tiles::kRows;
  float* q_tile = dynamic_shared<float>();          // [kRows, kDim]
  float* k_tile = q_tile + Tiles::kElements;        // [kRows, kDim]
  float* v_tile = k_tile + Tiles::kElements;        // [kRows, kDim]
  float* square = v_tile + Tiles::kElements;        // [kRows, kRows]

  const QueryBlock block(shape, kRows);
  const int64_t q_step = int64_t{shape.heads} * shape.head_dim, k_step = int64_t{shape.kv_heads} * shape.head_dim;
  const int rows = min(kRows, shape.queries - block.row);
  const int64_t q_at = query_offset(shape, block.batch, block.row, block.head);
  const int64_t k_at = key_offset(shape, block.batch, 0, block.head / (shape.heads / shape.kv_heads));
  const int first = first_position(shape);
  const int seen = seen_keys(shape, first, block.row + rows - 1);
  const float scale2 = shape.scale * kLog2E;

  load_plain<kDim>(q_tile, q + q_at, q_step, rows, shape.head_dim);
  typename Tiles::Sum sum = {};
  float maximum[R], total[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    maximum[i] = -INFINITY;
    total[i] = 0.0f;
  }
  for (int key = 0; key < seen; key += kRows) {
    __syncthreads();  // the last tiles have been read
    load_plain<kDim>(k_tile, k + k_at + key * k_step, k_step, seen - key, shape.head_dim);
    load_plain<kDim>(v_tile, v + k_at + key * k_step, k_step, seen - key, shape.head_dim);
    __syncthreads();
    typename Tiles::Square score;
    plain_product_transposed<kDim>(score, q_tile, k_tile);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const int limit = seen_keys(shape, first, block.row + R * plain_y() + i) - key;
      float largest = maximum[i];
#pragma unroll
      for (int j = 0; j < R; ++j) {
        score[i][j] = plain_x() + 16 * j < limit ? score[i][j] * scale2 : -INFINITY;
        largest = fmaxf(largest, score[i][j]);
      }
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
    store_square<kDim>(square, score);
    __syncthreads();
    add_plain_product<kDim>(sum, square, v_tile);
  }
  float inverse[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int row = R * plain_y() + i;
    total[i] = reduce_row(total[i], [](float a, float b) { return a + b; });
    inverse[i] = total[i] == 0.0f ? 0.0f : 1.0f / total[i];
    if (plain_x() == 0 && row < rows)
      lse[statistics_offset(shape, block.batch, block.row + row, block.head)] =
          total[i] == 0.0f ? -INFINITY : maximum[i] * kLn2 + logf(total[i]);
  }
  store_plain<kDim>(sum, inverse, out + q_at, q_step, rows, shape.head_dim);
}

}  // namespace

template <typename T>
void plain_attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out, float* lse,
                             cudaStream_t stream) {
  dispatch_plain_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = PlainTiles<kDim>;
    const unsigned grid = query_grid(shape, Tiles::kRows);
    if (grid > 0)
      launch(forward_kernel<kDim, T>, dim3(grid), dim3(Tiles::kThreads),
             int64_t{sizeof(float)} * (3 * Tiles::kElements + Tiles::kSquareElements), stream, shape, q, k, v, out,
             lse);
  });
}

template void plain_attention_forward(const AttentionShape&, const float*, const float*, const float*, float*,
                                      float*, cudaStream_t);
template void plain_attention_forward(const AttentionShape&, const bf16*, const bf16*, const bf16*, bf16*, float*,
                                      cudaStream_t);

}  // namespace tessera::cuda
