// Square tiles in f32 and their products without tensor cores: 256 threads as 16 x 16, of which thread (y, x)
// has rows R y .. R y + R - 1, and of a product with keys or queries as columns the columns x + 16 j, j < R.
// Products over those columns give kDim wide sums, of which it has four columns from 4 x + 64 c, c < kDim / 64.
//
// A tile of kDim columns has R = 4, 2, 1 for 64, 128, 256: four tiles of it stay below 99 KB of shared memory.
#pragma once

#include <cstdint>

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
  using Square = float[R][R];       // a thread's part of [kRows, kRows]
  using Sum = float[R][4 * C];      // ... of [kRows, kDim]
};

__device__ __forceinline__ int plain_x() { return static_cast<int>(threadIdx.x) % 16; }
__device__ __forceinline__ int plain_y() { return static_cast<int>(threadIdx.x) / 16; }

// Rows from `rows` on and columns from `dim` on are zeros.
template <int kDim, typename T>
__device__ __forceinline__ void load_plain(float* tile, const T* from, int64_t step, int rows, int dim) {
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

// Row i of the thread's rows is multiplied with factor[i] and written, where the row is below `rows`.
template <int kDim, typename T>
__device__ __forceinline__ void store_plain(const typename PlainTiles<kDim>::Sum& sum,
                                            const float (&factor)[PlainTiles<kDim>::R], T* to, int64_t step,
                                            int rows, int dim) {
  using Tiles = PlainTiles<kDim>;
#pragma unroll
  for (int i = 0; i < Tiles::R; ++i) {
    const int row = Tiles::R * plain_y() + i;
#pragma unroll
    for (int c = 0; c < 4 * Tiles::C; ++c) {
      const int column = 4 * plain_x() + 64 * (c / 4) + c % 4;
      if (row < rows && column < dim) to[row * step + column] = from_float<T>(sum[i][c] * factor[i]);
    }
  }
}

// Calls body<kDim>() with the tile width that holds head_dim columns.
template <typename Body>
void dispatch_plain_width(int head_dim, Body&& body) {
  if (head_dim <= 64) return body.template operator()<64>();
  if (head_dim <= 128) return body.template operator()<128>();
  body.template operator()<256>();
}

}  // namespace tessera::cuda
