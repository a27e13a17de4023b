// Gradient of the bias by distance: the sum over batch, queries and keys of the gradients of all scores that have it.
//
// A block owns one band of tiles in a sequence and a head: those kRows x kRows tiles where queries are a given number
// of tiles behind the keys. Equal places of these tiles are equally far from their diagonals, so that the block adds
// up whole tiles in registers, and sums along the diagonals only once, at its end. Each band leaves at most
// 2 kRows - 1 sums in memory; a second kernel adds those of a bias in a fixed order. Nothing is added by two blocks.
//
// Floor: two products more, 4 b h lq lk d operations (half with a causal mask), where the backward pass has 14; the
// partial sums are about 16 b h (lq + lk) bytes. It is computed only where asked for: a bias that is learned.
#include <type_traits>

#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/attention/attention_tiles.h"
#include "kernels/cuda/attention/plain_tiles.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

constexpr int kMostRows = 64;

// The bands of a sequence: queries of band i are i - (key tiles - 1) tiles behind its keys.
template <int kRows>
struct Bands {
  static constexpr int kSums = 2 * kRows;  // places of a band; one is spare

  __host__ __device__ explicit Bands(const AttentionShape& shape)
      : query_tiles((shape.queries + kRows - 1) / kRows),
        key_tiles((shape.keys + kRows - 1) / kRows),
        count(query_tiles + key_tiles - 1) {}
  __host__ __device__ int tiles_behind(int band) const { return band - (key_tiles - 1); }

  int query_tiles, key_tiles, count;
};

__device__ __forceinline__ int bias_index(const AttentionShape& shape, int distance, int bias_shift) {
  return min(max(distance + bias_shift, 0), shape.bias_size - 1);
}

// Block i is band i % count of head i / count of all sequences.
template <int kRows>
struct BandBlock {
  __device__ explicit BandBlock(const AttentionShape& shape) {
    const Bands<kRows> bands(shape);
    const int block = static_cast<int>(blockIdx.x), rest = block / bands.count;
    tiles_behind = bands.tiles_behind(block % bands.count);
    head = rest % shape.heads;
    batch = rest / shape.heads;
    first_tile = max(0, -tiles_behind);
    end_tile = min(bands.key_tiles, bands.query_tiles - tiles_behind);
  }
  __device__ int key(int tile) const { return tile * kRows; }
  __device__ int row(int tile) const { return (tile + tiles_behind) * kRows; }

  int batch, head, tiles_behind, first_tile, end_tile;
};

// Sums along the diagonals of `square` [kRows, kRows], rows `stride` elements apart, which all threads have written:
// sums of the same place of the bias together, from the band's first place on. `diagonals` has kSums places.
template <int kRows>
__device__ __forceinline__ void write_band(const AttentionShape& shape, int tiles_behind, int bias_shift,
                                           const float* square, int stride, float* diagonals, float* partials) {
  constexpr int kDiagonals = 2 * kRows - 1;
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < kDiagonals; d += static_cast<int>(blockDim.x)) {
    const int behind = d - (kRows - 1);  // of the row behind the column
    float sum = 0.0f;
    for (int row = max(0, behind); row < min(kRows, kRows + behind); ++row) sum += square[row * stride + row - behind];
    diagonals[d] = sum;
  }
  __syncthreads();
  const int nearest = tiles_behind * kRows - (kRows - 1);  // distance of diagonal 0
  const int first = bias_index(shape, nearest, bias_shift);
  for (int i = static_cast<int>(threadIdx.x); i < kDiagonals; i += static_cast<int>(blockDim.x)) {
    if (first + i > bias_index(shape, nearest + kDiagonals - 1, bias_shift)) break;
    float sum = 0.0f;
    for (int d = 0; d < kDiagonals; ++d)
      if (bias_index(shape, nearest + d, bias_shift) == first + i) sum += diagonals[d];
    partials[int64_t{blockIdx.x} * Bands<kRows>::kSums + i] = sum;
  }
}

template <int kDim>
struct TensorTiles {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kElements = kRows * kTileStride<kDim>;
  static constexpr int kSquareStride = kRows + 1;
  static constexpr int64_t kSharedBytes = 4 * int64_t{sizeof(bf16)} * kElements;
  static_assert(kSharedBytes >= int64_t{sizeof(float)} * (kRows * kSquareStride + Bands<kRows>::kSums));
};

template <int kDim>
__global__ void __launch_bounds__(TensorTiles<kDim>::kThreads)
    tensor_band_kernel(AttentionShape shape, const bf16* q, const bf16* k, const bf16* v,
                       const RowStatistics* statistics, const bf16* dout, float* partials) {
  using Tiles = TensorTiles<kDim>;
  constexpr int kRows = Tiles::kRows, kThreads = Tiles::kThreads, N = kRows / 8;
  bf16* q_tile = dynamic_shared<bf16>();           // [kRows, kDim], as the next three
  bf16* dout_tile = q_tile + Tiles::kElements;
  bf16* k_tile = dout_tile + Tiles::kElements;
  bf16* v_tile = k_tile + Tiles::kElements;

  const BandBlock<kRows> band(shape);
  const AttentionMask mask(shape);
  const int q_step = shape.heads * shape.head_dim, k_step = shape.kv_heads * shape.head_dim;
  const int kv_head = band.head / (shape.heads / shape.kv_heads);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const float scale2 = shape.scale * kLog2E;
  float sum[1][N][4];
  set_zero(sum);
  for (int tile = band.first_tile; tile < band.end_tile; ++tile) {
    const int row = band.row(tile), key = band.key(tile);
    if (!mask.is_seen<kRows, kRows>(band.batch, row, key)) continue;
    const int64_t q_at = query_offset(shape, band.batch, row, band.head),
                  k_at = key_offset(shape, band.batch, key, kv_head);
    __syncthreads();  // the last tiles have been read
    copy_tile<kDim, kRows, kThreads>(q_tile, q + q_at, q_step, shape.queries - row, shape.head_dim);
    copy_tile<kDim, kRows, kThreads>(k_tile, k + k_at, k_step, shape.keys - key, shape.head_dim);
    copy_tile<kDim, kRows, kThreads>(dout_tile, dout + q_at, q_step, shape.queries - row, shape.head_dim);
    copy_tile<kDim, kRows, kThreads>(v_tile, v + k_at, k_step, shape.keys - key, shape.head_dim);
    copy_async_commit();
    float score[1][N][4], dscore[1][N][4];
    set_zero(score);
    set_zero(dscore);
    const int first_row = row + warp_row;
    add_bias_and_segments<false>(mask, score, band.batch, band.head, first_row, key);
    copy_async_wait<0>();
    __syncthreads();
    add_product_transposed<kDim>(score, q_tile, warp_row, k_tile);
    add_product_transposed<kDim>(dscore, dout_tile, warp_row, v_tile);
    if (mask.is_cut<16, kRows, false>(first_row, key)) hide_unseen<false>(mask, score, first_row, key);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int own = first_row + lane / 4 + 8 * r;
      RowStatistics of_row = {INFINITY, 0.0f};
      if (own < shape.queries) of_row = statistics[statistics_offset(shape, band.batch, own, band.head)];
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          const float probability = exp2_approx(fmaf(score[0][n][i], scale2, -of_row.lse2));
          sum[0][n][i] = fmaf(probability, dscore[0][n][i] - of_row.delta, sum[0][n][i]);
        }
      }
    }
  }
  __syncthreads();
  float* square = dynamic_shared<float>();
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      square[(warp_row + lane / 4 + i / 2 * 8) * Tiles::kSquareStride + 8 * n + lane % 4 * 2 + i % 2] = sum[0][n][i];
  }
  write_band<kRows>(shape, band.tiles_behind, mask.bias_shift(), square, Tiles::kSquareStride,
                    square + kRows * Tiles::kSquareStride, partials);
}

template <int kDim>
__global__ void __launch_bounds__(256, 2) plain_band_kernel(PlainTensors tensors, float* partials) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kRows = Tiles::kRows;
  const PlainShared<kDim> tiles;
  const AttentionShape& shape = tensors.shape;
  const BandBlock<kRows> band(shape);
  const PlainBlock<kDim> block(tensors, band.batch);
  const int kv_head = band.head / (shape.heads / shape.kv_heads);
  typename Tiles::Square sum = {};
  for (int tile = band.first_tile; tile < band.end_tile; ++tile) {
    const int row = band.row(tile), key = band.key(tile);
    if (!block.mask.template is_seen<kRows, kRows>(band.batch, row, key)) continue;
    __syncthreads();  // the last tiles have been read
    block.load_queries(tiles.q, tensors.q, row, band.head);
    block.load_queries(tiles.dout, tensors.dout, row, band.head);
    block.load_keys(tiles.k, tensors.k, key, kv_head);
    block.load_keys(tiles.v, tensors.v, key, kv_head);
    __syncthreads();
    typename Tiles::Square dscore;
    block.score_gradients(dscore, tiles, band.head, row, key);
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
      for (int j = 0; j < R; ++j) sum[i][j] += dscore[i][j];
  }
  __syncthreads();
  store_square<kDim>(tiles.square, sum);
  write_band<kRows>(shape, band.tiles_behind, block.mask.bias_shift(), tiles.square, Tiles::kSquareStride, tiles.q,
                    partials);
}

constexpr int kThreads = 256;

// A warp for each number of the bias: over the sequences, and the bands that have pairs of its distance.
template <int kRows>
__global__ void __launch_bounds__(kThreads)
    add_bands_kernel(AttentionShape shape, const float* partials, float* d_bias) {
  const int64_t place = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (place >= int64_t{shape.heads} * shape.bias_size) return;
  const int head = static_cast<int>(place / shape.bias_size), index = static_cast<int>(place % shape.bias_size);
  const Bands<kRows> bands(shape);
  const int bias_shift = AttentionMask(shape).bias_shift();
  // Band i has the distances within kRows - 1 of tiles_behind(i) kRows. So distance d stands in the band that is
  // floor(d / kRows) tiles behind, and in the next. The ends of the bias stand for all beyond.
  const int distance = index - bias_shift + bands.key_tiles * kRows;
  const int nearest = (distance >= 0 ? distance / kRows : -1) - 1;
  const int first = index == 0 ? 0 : max(0, nearest),
            last = index == shape.bias_size - 1 ? bands.count - 1 : min(bands.count - 1, nearest + 1);
  float sum = 0.0f;
  for (int batch = 0; batch < shape.batch; ++batch) {
    for (int band = first + static_cast<int>(threadIdx.x) % 32; band <= last; band += 32) {
      const int smallest = bands.tiles_behind(band) * kRows - (kRows - 1);
      const int begin = bias_index(shape, smallest, bias_shift),
                end = bias_index(shape, smallest + 2 * (kRows - 1), bias_shift);
      if (index < begin || index > end) continue;
      const int64_t block = (int64_t{batch} * shape.heads + head) * bands.count + band;
      sum += partials[block * Bands<kRows>::kSums + index - begin];
    }
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (threadIdx.x % 32 == 0) d_bias[place] = sum;
}

// band_kernel(grid) launches the kernel of the bands.
template <int kRows, typename BandKernel>
void run(const AttentionShape& shape, const float* partials, float* d_bias, cudaStream_t stream,
         const BandKernel& band_kernel) {
  AttentionShape bands = shape;
  const bool is_empty = shape.queries == 0 || shape.keys == 0;
  if (is_empty) bands.batch = 0;
  const unsigned grid =
      is_empty ? 0 : grid_of(int64_t{shape.batch} * shape.heads, int64_t{Bands<kRows>(shape).count}, 1);
  if (grid > 0) band_kernel(dim3(grid));
  const unsigned places = grid_of(1, int64_t{shape.heads} * shape.bias_size, kThreads / 32);
  if (places > 0)
    launch(add_bands_kernel<kRows>, dim3(places), dim3(kThreads), 0, stream, bands, partials, d_bias);
}

}  // namespace

int64_t bias_gradient_bytes(int64_t batch, int64_t heads, int64_t queries, int64_t keys) {
  // kSums for each of the bands, which are fewer than the tiles.
  return batch * heads * 2 * (queries + keys + 2 * kMostRows) * static_cast<int64_t>(sizeof(float));
}

void tensor_bias_gradient(const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                          const RowStatistics* statistics, const bf16* dout, float* partials, float* d_bias,
                          cudaStream_t stream) {
  const auto with = [&]<int kDim>() {
    using Tiles = TensorTiles<kDim>;
    run<Tiles::kRows>(shape, partials, d_bias, stream, [&](dim3 grid) {
      launch(tensor_band_kernel<kDim>, grid, dim3(Tiles::kThreads), Tiles::kSharedBytes, stream, shape, q, k, v,
             statistics, dout, partials);
    });
  };
  if (shape.head_dim <= 64) return with.template operator()<64>();
  with.template operator()<128>();
}

template <typename T>
void plain_bias_gradient(const AttentionShape& shape, const T* q, const T* k, const T* v,
                         const RowStatistics* statistics, const T* dout, float* partials, float* d_bias,
                         cudaStream_t stream) {
  dispatch_plain_width(shape.head_dim, [&]<int kDim>() {
    using Tiles = PlainTiles<kDim>;
    static_assert(Tiles::kElements >= Bands<Tiles::kRows>::kSums);
    run<Tiles::kRows>(shape, partials, d_bias, stream, [&](dim3 grid) {
      launch(plain_band_kernel<kDim>, grid, dim3(Tiles::kThreads), Tiles::kBackwardBytes, stream,
             PlainTensors{shape, std::is_same_v<T, bf16>, q, k, v, dout, statistics}, partials);
    });
  });
}

template void plain_bias_gradient(const AttentionShape&, const float*, const float*, const float*,
                                  const RowStatistics*, const float*, float*, float*, cudaStream_t);
template void plain_bias_gradient(const AttentionShape&, const bf16*, const bf16*, const bf16*, const RowStatistics*,
                                  const bf16*, float*, float*, cudaStream_t);

}  // namespace tessera::cuda
