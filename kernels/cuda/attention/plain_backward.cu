// Flash attention backward without tensor cores; see plain_forward.cu for where it is used and tensor_backward.cu
// for the two kernels and their formulas. Floor: 10 b h lq lk d operations (half with a causal mask) at the
// multiply-add rate; done are 14.
#include <type_traits>

#include "kernels/cuda/attention/plain_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

template <int kDim>
__global__ void __launch_bounds__(256, 2) plain_key_kernel(PlainTensors tensors, void* dk_out, void* dv_out) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kRows = Tiles::kRows;
  const PlainShared<kDim> tiles;
  const AttentionShape& shape = tensors.shape;
  const KeyBlock place(shape, kRows);
  const PlainBlock<kDim> block(tensors, place.batch);
  const int members = shape.heads / shape.kv_heads, rows = min(kRows, shape.keys - place.key);
  const Span queries = block.mask.queries_of(place.key, rows);
  const auto next_tile = [&](int row) {
    return block.mask.template next_query_tile<kRows, kRows>(place.batch, place.key, row, queries.end);
  };

  block.load_keys(tiles.k, tensors.k, place.key, place.head);
  block.load_keys(tiles.v, tensors.v, place.key, place.head);
  typename Tiles::Sum dk = {}, dv = {};
  for (int head = place.head * members; head < (place.head + 1) * members; ++head) {
    for (int row = next_tile(queries.begin / kRows * kRows); row < queries.end; row = next_tile(row + kRows)) {
      __syncthreads();  // the last tiles have been read
      block.load_queries(tiles.q, tensors.q, row, head);
      block.load_queries(tiles.dout, tensors.dout, row, head);
      __syncthreads();
      typename Tiles::Square probability, dscore;
      plain_product_transposed<kDim>(probability, tiles.k, tiles.q);
      plain_product_transposed<kDim>(dscore, tiles.v, tiles.dout);
      block.template finish_scores<true>(probability, tiles.square, head, row, place.key);
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const RowStatistics of_row = block.statistics_of(head, row + plain_x() + 16 * j);
#pragma unroll
        for (int i = 0; i < R; ++i) {
          probability[i][j] = exp2f(probability[i][j] - of_row.lse2);
          dscore[i][j] = probability[i][j] * (dscore[i][j] - of_row.delta);
        }
      }
      store_square<kDim>(tiles.square, probability);
      __syncthreads();
      add_plain_product<kDim>(dv, tiles.square, tiles.dout);
      __syncthreads();
      store_square<kDim>(tiles.square, dscore);
      __syncthreads();
      add_plain_product<kDim>(dk, tiles.square, tiles.q);
    }
  }
  float scale[R], one[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    scale[i] = shape.scale;
    one[i] = 1.0f;
  }
  const int64_t at = key_offset(shape, place.batch, place.key, place.head);
  block.store(dk, scale, dk_out, at, block.k_step, rows);
  block.store(dv, one, dv_out, at, block.k_step, rows);
}

template <int kDim>
__global__ void __launch_bounds__(256, 2) plain_query_kernel(PlainTensors tensors, void* dq_out) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R;
  const PlainShared<kDim> tiles;
  const PlainQueries<kDim> queries(tensors);
  const QueryBlock& place = queries.place;
  const PlainBlock<kDim>& block = queries.block;

  block.load_queries(tiles.q, tensors.q, place.row, place.head);
  block.load_queries(tiles.dout, tensors.dout, place.row, place.head);
  typename Tiles::Sum dq = {};
  for (int key = queries.first_tile(); key < queries.keys.end; key = queries.next_tile(key + Tiles::kRows)) {
    __syncthreads();  // the last tiles have been read
    block.load_keys(tiles.k, tensors.k, key, queries.kv_head);
    block.load_keys(tiles.v, tensors.v, key, queries.kv_head);
    __syncthreads();
    typename Tiles::Square dscore;
    block.score_gradients(dscore, tiles, place.head, place.row, key);
    store_square<kDim>(tiles.square, dscore);
    __syncthreads();
    add_plain_product<kDim>(dq, tiles.square, tiles.k);
  }
  float scale[R];
#pragma unroll
  for (int i = 0; i < R; ++i) scale[i] = tensors.shape.scale;
  block.store(dq, scale, dq_out, queries.offset(), block.q_step, queries.rows);
}

}  // namespace

template <typename T>
void plain_attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                              const RowStatistics* statistics, const T* dout, T* dq, T* dk, T* dv,
                              cudaStream_t stream) {
  const PlainTensors tensors{shape, std::is_same_v<T, bf16>, q, k, v, dout, statistics};
  dispatch_plain_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = PlainTiles<kDim>;
    const unsigned key_blocks = key_grid(shape, Tiles::kRows), query_blocks = query_grid(shape, Tiles::kRows);
    const dim3 threads(Tiles::kThreads);
    if (key_blocks > 0)
      launch(plain_key_kernel<kDim>, dim3(key_blocks), threads, Tiles::kBackwardBytes, stream, tensors, dk, dv);
    if (query_blocks > 0)
      launch(plain_query_kernel<kDim>, dim3(query_blocks), threads, Tiles::kBackwardBytes, stream, tensors, dq);
  });
}

template void plain_attention_backward(const AttentionShape&, const float*, const float*, const float*,
                                       const RowStatistics*, const float*, float*, float*, float*, cudaStream_t);
template void plain_attention_backward(const AttentionShape&, const bf16*, const bf16*, const bf16*,
                                       const RowStatistics*, const bf16*, bf16*, bf16*, bf16*, cudaStream_t);

}  // namespace tessera::cuda
