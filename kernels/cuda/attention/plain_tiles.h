// Square tiles in f32 and their products without tensor cores: 256 threads as 16 x 16, of which thread (y, x)
// has rows R y .. R y + R - 1, and of a product with keys or queries as columns the columns x + 16 j, j < R.
// Products over those columns give kDim wide sums, of which it has four columns from 4 x + 64 c, c < kDim / 64.
//
// A tile of kDim columns has R = 4, 2, 1 for 64, 128, 256: four tiles of it stay below 99 KB of shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention/attention_block.h"
#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/number.h"

namespace tessera::cuda {

template <int kDim>
struct PlainTiles {
  static constexpr int kThreads = 256;
  static constexpr int R = 256 / kDim;
  static constexpr int kRows = 16 * R;
  static constexpr int C = kDim / 64;
  static constexpr int kStride = kDim + 4;        // eight rows begin in eight sets of four banks
  static constexpr int kSquareStride = kRows + 4;
  static constexpr int kElements = kRows * kStride, kSquareElements = kRows * kSquareStride;
  static constexpr int64_t kForwardBytes = int64_t{sizeof(float)} * (3 * kElements + kSquareElements),
                           kBackwardBytes = kForwardBytes + int64_t{sizeof(float)} * kElements;
  using Square = float[R][R];       // a thread's part of [kRows, kRows]
  using Sum = float[R][4 * C];      // ... of [kRows, kDim]
};

// Where tiles lie in a block's shared memory. Only kernels that have kBackwardBytes of it use dout.
template <int kDim>
struct PlainShared {
  using Tiles = PlainTiles<kDim>;
  __device__ __forceinline__ PlainShared()
      : q(dynamic_shared<float>()),
        k(q + Tiles::kElements),
        v(k + Tiles::kElements),
        square(v + Tiles::kElements),
        dout(square + Tiles::kSquareElements) {}

  float *const q, *const k, *const v;  // [kRows, kDim]
  float* const square;                 // [kRows, kRows]
  float* const dout;                   // [kRows, kDim]
};

__device__ __forceinline__ int plain_x() { return static_cast<int>(threadIdx.x) % 16; }
__device__ __forceinline__ int plain_y() { return static_cast<int>(threadIdx.x) / 16; }

template <int kDim, typename T>
__device__ __forceinline__ void load_rows(float* tile, const T* from, int64_t step, int rows, int dim) {
  using Tiles = PlainTiles<kDim>;
  for (int i = static_cast<int>(threadIdx.x); i < Tiles::kRows * kDim; i += Tiles::kThreads) {
    const int row = i / kDim, column = i % kDim;
    tile[row * Tiles::kStride + column] = row < rows && column < dim ? to_float(from[row * step + column]) : 0.0f;
  }
}

// product = a b^T
template <int kDim>
__device__ __forceinline__ void plain_product_transposed(typename PlainTiles<kDim>::Square& product, const float* a,
                                                         const float* b) {
  using Tiles = PlainTiles<kDim>;
  constexpr int R = Tiles::R, kStride = Tiles::kStride;
#pragma unroll
  for (int i = 0; i < R; ++i)
#pragma unroll
    for (int j = 0; j < R; ++j) product[i][j] = 0.0f;
  for (int d = 0; d < kDim; d += 4) {
    float4 left[R], right[R];
#pragma unroll
    for (int i = 0; i < R; ++i) {
      left[i] = *reinterpret_cast<const float4*>(a + (R * plain_y() + i) * kStride + d);
      right[i] = *reinterpret_cast<const float4*>(b + (plain_x() + 16 * i) * kStride + d);
    }
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < R; ++j) {
        product[i][j] = fmaf(left[i].x, right[j].x, product[i][j]);
        product[i][j] = fmaf(left[i].y, right[j].y, product[i][j]);
        product[i][j] = fmaf(left[i].z, right[j].z, product[i][j]);
        product[i][j] = fmaf(left[i].w, right[j].w, product[i][j]);
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void store_square(float* square, const typename PlainTiles<kDim>::Square& part) {
  using Tiles = PlainTiles<kDim>;
#pragma unroll
  for (int i = 0; i < Tiles::R; ++i)
#pragma unroll
    for (int j = 0; j < Tiles::R; ++j)
      square[(Tiles::R * plain_y() + i) * Tiles::kSquareStride + plain_x() + 16 * j] = part[i][j];
}

// sum += square tile
template <int kDim>
__device__ __forceinline__ void add_plain_product(typename PlainTiles<kDim>::Sum& sum, const float* square,
                                                  const float* tile) {
  using Tiles = PlainTiles<kDim>;
  for (int k = 0; k < Tiles::kRows; ++k) {
    float left[Tiles::R];
#pragma unroll
    for (int i = 0; i < Tiles::R; ++i) left[i] = square[(Tiles::R * plain_y() + i) * Tiles::kSquareStride + k];
#pragma unroll
    for (int c = 0; c < Tiles::C; ++c) {
      const float4 right = *reinterpret_cast<const float4*>(tile + k * Tiles::kStride + 4 * plain_x() + 64 * c);
#pragma unroll
      for (int i = 0; i < Tiles::R; ++i) {
        sum[i][4 * c] = fmaf(left[i], right.x, sum[i][4 * c]);
        sum[i][4 * c + 1] = fmaf(left[i], right.y, sum[i][4 * c + 1]);
        sum[i][4 * c + 2] = fmaf(left[i], right.z, sum[i][4 * c + 2]);
        sum[i][4 * c + 3] = fmaf(left[i], right.w, sum[i][4 * c + 3]);
      }
    }
  }
}

// Operands of float or bf16. Which of them is known when the kernel runs: it concerns loads and stores only, and so
// each kernel is compiled once.
struct PlainTensors {
  AttentionShape shape;
  bool is_bf16;
  const void *q, *k, *v, *dout;
  const RowStatistics* statistics;
};

// Where a block of queries or keys stands, and what the three kinds of kernels begin with.
template <int kDim>
struct PlainBlock {
  using Tiles = PlainTiles<kDim>;
  static constexpr int kRows = Tiles::kRows;

  __device__ __forceinline__ PlainBlock(const PlainTensors& tensors, int batch)
      : tensors(tensors),
        shape(tensors.shape),
        mask(tensors.shape),
        batch(batch),
        q_step(int64_t{shape.heads} * shape.head_dim),
        k_step(int64_t{shape.kv_heads} * shape.head_dim),
        scale2(shape.scale * kLog2E) {}

  // Rows from `rows` on and columns beyond a head are zeros.
  __device__ __forceinline__ void load(float* tile, const void* from, int64_t at, int64_t step, int rows) const {
    if (tensors.is_bf16) return load_rows<kDim>(tile, static_cast<const bf16*>(from) + at, step, rows, shape.head_dim);
    load_rows<kDim>(tile, static_cast<const float*>(from) + at, step, rows, shape.head_dim);
  }
  // Queries of a tensor like q, keys of one like k.
  __device__ __forceinline__ void load_queries(float* tile, const void* from, int row, int head) const {
    load(tile, from, query_offset(shape, batch, row, head), q_step, shape.queries - row);
  }
  __device__ __forceinline__ void load_keys(float* tile, const void* from, int key, int head) const {
    load(tile, from, key_offset(shape, batch, key, head), k_step, shape.keys - key);
  }

  // Row i of the thread's rows is multiplied with factor[i] and written, where the row is below `rows`.
  __device__ __forceinline__ void store(const typename Tiles::Sum& sum, const float (&factor)[Tiles::R], void* to,
                                        int64_t at, int64_t step, int rows) const {
#pragma unroll
    for (int i = 0; i < Tiles::R; ++i) {
      const int row = Tiles::R * plain_y() + i;
#pragma unroll
      for (int c = 0; c < 4 * Tiles::C; ++c) {
        const int column = 4 * plain_x() + 64 * (c / 4) + c % 4;
        if (row >= rows || column >= shape.head_dim) continue;
        const int64_t place = at + row * step + column;
        if (tensors.is_bf16)
          static_cast<bf16*>(to)[place] = from_float<bf16>(sum[i][c] * factor[i]);
        else
          static_cast<float*>(to)[place] = sum[i][c] * factor[i];
      }
    }
  }

  // Turns products of the tile's queries and keys, or with kByKey of its keys and queries, into scores in base 2, -inf
  // where the key is not seen. What is added to them goes through `square`, each thread's in its own places: in
  // registers the code would be there once for each of them.
  template <bool kByKey>
  __device__ __forceinline__ void finish_scores(typename Tiles::Square& score, float* square, int head, int row,
                                                int key) const {
    constexpr int R = Tiles::R;
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
      for (int j = 0; j < R; ++j) score[i][j] *= scale2;
    if (!mask.template is_cut<kRows, kRows, kByKey>(row, key) && !mask.template is_special<kRows, kRows>(batch, row, key))
      return;
    float* own = square + R * plain_y() * Tiles::kSquareStride + plain_x();
    const int shift = shape.bias != nullptr ? mask.bias_shift() : 0;
#pragma unroll 1
    for (int e = 0; e < R * R; ++e) {
      const int i = e / R, j = e % R, left = R * plain_y() + i, right = plain_x() + 16 * j;
      own[i * Tiles::kSquareStride + 16 * j] =
          mask.addend(batch, head, row + (kByKey ? right : left), key + (kByKey ? left : right), shift);
    }
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const float addend = own[i * Tiles::kSquareStride + 16 * j];
        score[i][j] = addend == -INFINITY ? addend : score[i][j] + addend;
      }
    }
  }

  // Gradients of the scores of a tile: p (dout v^T - delta). No thread may still read the square.
  __device__ __forceinline__ void score_gradients(typename Tiles::Square& dscore, const PlainShared<kDim>& tiles,
                                                  int head, int row, int key) const {
    typename Tiles::Square score;
    plain_product_transposed<kDim>(score, tiles.q, tiles.k);
    plain_product_transposed<kDim>(dscore, tiles.dout, tiles.v);
    finish_scores<false>(score, tiles.square, head, row, key);
#pragma unroll
    for (int i = 0; i < Tiles::R; ++i) {
      const RowStatistics of_row = statistics_of(head, row + Tiles::R * plain_y() + i);
#pragma unroll
      for (int j = 0; j < Tiles::R; ++j)
        dscore[i][j] = exp2f(score[i][j] - of_row.lse2) * (dscore[i][j] - of_row.delta);
    }
  }

  __device__ __forceinline__ RowStatistics statistics_of(int head, int row) const {
    if (row >= shape.queries) return {INFINITY, 0.0f};
    return tensors.statistics[statistics_offset(shape, batch, row, head)];
  }

  const PlainTensors& tensors;
  const AttentionShape& shape;
  const AttentionMask mask;
  const int batch;
  const int64_t q_step, k_step;
  const float scale2;
};

// A block of queries, and the tiles of keys that it may see.
template <int kDim>
struct PlainQueries {
  static constexpr int kRows = PlainTiles<kDim>::kRows;

  __device__ __forceinline__ explicit PlainQueries(const PlainTensors& tensors)
      : place(tensors.shape, kRows),
        block(tensors, place.batch),
        rows(min(kRows, tensors.shape.queries - place.row)),
        kv_head(place.head / (tensors.shape.heads / tensors.shape.kv_heads)),
        keys(block.mask.keys_of(place.row, rows)) {}

  // The first tile at or behind `key`; from keys.end on there is none.
  __device__ __forceinline__ int next_tile(int key) const {
    return block.mask.template next_key_tile<kRows, kRows>(place.batch, place.row, key, keys.end);
  }
  __device__ __forceinline__ int first_tile() const { return next_tile(keys.begin / kRows * kRows); }
  __device__ __forceinline__ int64_t offset() const {
    return query_offset(block.shape, place.batch, place.row, place.head);
  }

  const QueryBlock place;
  const PlainBlock<kDim> block;
  const int rows, kv_head;
  const Span keys;
};

// Calls body<kDim>() with the tile width that holds head_dim columns.
template <typename Body>
void dispatch_plain_width(int head_dim, Body&& body) {
  if (head_dim <= 64) return body.template operator()<64>();
  if (head_dim <= 128) return body.template operator()<128>();
  body.template operator()<256>();
}

}  // namespace tessera::cuda
