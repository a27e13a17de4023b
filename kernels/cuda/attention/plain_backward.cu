// Flash attention backward without tensor cores; see plain_forward.cu for where it is used and tensor_backward.cu
// for the two kernels and their formulas. Floor: 10 b h lq lk d operations (half with a causal mask) at the
// multiply-add rate; done are 14.
#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/plain_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

template <int kDim, typename T>
__global__ void __launch_bounds__(256)
    key_kernel(AttentionShape shape, const T* q, const T* k, const T* v, const RowStatistics* statistics,
               const T* dout, T* dk_out, T* dv_out) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kRows = Tiles::kRows;
  float* k_tile = dynamic_shared<float>();        // [kRows, kDim], as the next three
  float* v_tile = k_tile + Tiles::kElements;
  float* q_tile = v_tile + Tiles::kElements;
  float* dout_tile = q_tile + Tiles::kElements;
  float* square = dout_tile + Tiles::kElements;   // [kRows, kRows]

  const KeyBlock block(shape, kRows);
  const int members = shape.heads / shape.kv_heads;
  const int64_t q_step = int64_t{shape.heads} * shape.head_dim, k_step = int64_t{shape.kv_heads} * shape.head_dim;
  const int rows = min(kRows, shape.keys - block.key);
  const int64_t k_at = key_offset(shape, block.batch, block.key, block.head);
  const int first = first_position(shape);
  const float scale2 = shape.scale * kLog2E;
  const int first_row = max(0, block.key - first) / kRows * kRows;  // earlier queries see none of the keys

  load_plain<kDim>(k_tile, k + k_at, k_step, rows, shape.head_dim);
  load_plain<kDim>(v_tile, v + k_at, k_step, rows, shape.head_dim);
  typename Tiles::Sum dk = {}, dv = {};
  for (int head = block.head * members; head < (block.head + 1) * members; ++head) {
    for (int row = first_row; row < shape.queries; row += kRows) {
      const int64_t q_at = query_offset(shape, block.batch, row, head);
      __syncthreads();  // the last tiles have been read
      load_plain<kDim>(q_tile, q + q_at, q_step, shape.queries - row, shape.head_dim);
      load_plain<kDim>(dout_tile, dout + q_at, q_step, shape.queries - row, shape.head_dim);
      __syncthreads();
      typename Tiles::Square probability, dscore;
      plain_product_transposed<kDim>(probability, k_tile, q_tile);
      plain_product_transposed<kDim>(dscore, v_tile, dout_tile);
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const int query = row + plain_x() + 16 * j;
        RowStatistics of_row = {INFINITY, 0.0f};
        if (query < shape.queries) of_row = statistics[statistics_offset(shape, block.batch, query, head)];
#pragma unroll
        for (int i = 0; i < R; ++i) {
          const bool visible = block.key + R * plain_y() + i < seen_keys(shape, first, query);
          probability[i][j] = visible ? exp2f(fmaf(probability[i][j], scale2, -of_row.lse2)) : 0.0f;
          dscore[i][j] = probability[i][j] * (dscore[i][j] - of_row.delta);
        }
      }
      store_square<kDim>(square, probability);
      __syncthreads();
      add_plain_product<kDim>(dv, square, dout_tile);
      __syncthreads();
      store_square<kDim>(square, dscore);
      __syncthreads();
      add_plain_product<kDim>(dk, square, q_tile);
    }
  }
  float scale[R], one[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    scale[i] = shape.scale;
    one[i] = 1.0f;
  }
  store_plain<kDim>(dk, scale, dk_out + k_at, k_step, rows, shape.head_dim);
  store_plain<kDim>(dv, one, dv_out + k_at, k_step, rows, shape.head_dim);
}

template <int kDim, typename T>
__global__ void __launch_bounds__(256)
    query_kernel(AttentionShape shape, const T* q, const T* k, const T* v, const RowStatistics* statistics,
                 const T* dout, T* dq_out) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kRows = Tiles::kRows;
  float* q_tile = dynamic_shared<float>();        // [kRows, kDim], as the next three
  float* dout_tile = q_tile + Tiles::kElements;
  float* k_tile = dout_tile + Tiles::kElements;
  float* v_tile = k_tile + Tiles::kElements;
  float* square = v_tile + Tiles::kElements;      // [kRows, kRows]

  const QueryBlock block(shape, kRows);
  const int64_t q_step = int64_t{shape.heads} * shape.head_dim, k_step = int64_t{shape.kv_heads} * shape.head_dim;
  const int rows = min(kRows, shape.queries - block.row);
  const int64_t q_at = query_offset(shape, block.batch, block.row, block.head);
  const int64_t k_at = key_offset(shape, block.batch, 0, block.head / (shape.heads / shape.kv_heads));
  const int first = first_position(shape);
  const int seen = seen_keys(shape, first, block.row + rows - 1);
  const float scale2 = shape.scale * kLog2E;

  load_plain<kDim>(q_tile, q + q_at, q_step, rows, shape.head_dim);
  load_plain<kDim>(dout_tile, dout + q_at, q_step, rows, shape.head_dim);
  typename Tiles::Sum dq = {};
  for (int key = 0; key < seen; key += kRows) {
    __syncthreads();  // the last tiles have been read
    load_plain<kDim>(k_tile, k + k_at + key * k_step, k_step, seen - key, shape.head_dim);
    load_plain<kDim>(v_tile, v + k_at + key * k_step, k_step, seen - key, shape.head_dim);
    __syncthreads();
    typename Tiles::Square score, dscore;
    plain_product_transposed<kDim>(score, q_tile, k_tile);
    plain_product_transposed<kDim>(dscore, dout_tile, v_tile);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const int row = R * plain_y() + i, limit = seen_keys(shape, first, block.row + row) - key;
      RowStatistics of_row = {INFINITY, 0.0f};
      if (row < rows) of_row = statistics[statistics_offset(shape, block.batch, block.row + row, block.head)];
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const bool visible = plain_x() + 16 * j < limit;
        const float probability = visible ? exp2f(fmaf(score[i][j], scale2, -of_row.lse2)) : 0.0f;
        dscore[i][j] = probability * (dscore[i][j] - of_row.delta);
      }
    }
    store_square<kDim>(square, dscore);
    __syncthreads();
    add_plain_product<kDim>(dq, square, k_tile);
  }
  float scale[R];
#pragma unroll
  for (int i = 0; i < R; ++i) scale[i] = shape.scale;
  store_plain<kDim>(dq, scale, dq_out + q_at, q_step, rows, shape.head_dim);
}

}  // namespace

template <typename T>
void plain_attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                              const RowStatistics* statistics, const T* dout, T* dq, T* dk, T* dv,
                              cudaStream_t stream) {
  dispatch_plain_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = PlainTiles<kDim>;
    constexpr int64_t kSharedBytes = int64_t{sizeof(float)} * (4 * Tiles::kElements + Tiles::kSquareElements);
    const unsigned key_blocks = key_grid(shape, Tiles::kRows), query_blocks = query_grid(shape, Tiles::kRows);
    if (key_blocks > 0)
      launch(key_kernel<kDim, T>, dim3(key_blocks), dim3(Tiles::kThreads), kSharedBytes, stream, shape, q, k, v,
             statistics, dout, dk, dv);
    if (query_blocks > 0)
      launch(query_kernel<kDim, T>, dim3(query_blocks), dim3(Tiles::kThreads), kSharedBytes, stream, shape, q, k, v,
             statistics, dout, dq);
  });
}

template void plain_attention_backward(const AttentionShape&, const float*, const float*, const float*,
                                       const RowStatistics*, const float*, float*, float*, float*, cudaStream_t);
template void plain_attention_backward(const AttentionShape&, const bf16*, const bf16*, const bf16*,
                                       const RowStatistics*, const bf16*, bf16*, bf16*, bf16*, cudaStream_t);

}  // namespace tessera::cuda
