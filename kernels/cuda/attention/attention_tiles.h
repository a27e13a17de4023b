// Tiles of bf16 in shared memory, and the products of a warp's 16 M rows with them on the tensor cores.
//
// Sums [16 M, 8 N] lie in registers as float[M][N][4], a lane's part of each 16 x 8 (device/mma.h): with
// g = lane / 4 and t = lane % 4 the elements 0, 1 are row g, columns 2t, 2t + 1, and 2, 3 the same of row g + 8.
// Packed to bf16 that layout is also that of a left operand, so that probabilities need no shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/copy_async.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/opaque.h"
#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

// Elements from row to row of a tile with kDim columns: 16 bytes more than they need, so that eight rows begin
// in eight different sets of banks and ldmatrix has no conflicts.
template <int kDim>
inline constexpr int kTileStride = kDim + 8;
template <int kDim>
inline constexpr int kTileRowBytes = 2 * kTileStride<kDim>;

// Begins to copy kRows rows, `step` elements apart, by all of the block's kThreads threads. Rows from `rows` on
// and columns from `dim` (a multiple of 8) on become zeros. With opaque(threadIdx.x) as `thread` the addresses are
// worked out where the copy stands, and hold no registers through a loop.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void copy_tile(bf16* tile, const bf16* from, int step, int rows, int dim,
                                          unsigned thread = threadIdx.x) {
  // A thread stays in its column, so that one address and one step are all it needs.
  constexpr int kPacks = kDim <= 32 ? 4 : kDim <= 64 ? 8 : 16, kRowsAtOnce = kThreads / kPacks;
  static_assert(kThreads % kPacks == 0 && kRows % kRowsAtOnce == 0);
  const int column = static_cast<int>(thread % kPacks * 8), row = static_cast<int>(thread / kPacks);
  if (column >= kDim) return;
  const bf16* at = from + static_cast<int64_t>(row) * step + column;
  bf16* to = tile + row * kTileStride<kDim> + column;
  const int left = column < dim ? rows - row : 0;
#pragma unroll
  for (int i = 0; i < kRows; i += kRowsAtOnce) {
    copy_async<16>(to + i * kTileStride<kDim>, at, i < left);
    at += static_cast<int64_t>(kRowsAtOnce) * step;
  }
}

// sum [16 M, 8 N] += rows a_row.. of `a`, times rows 0.. of `b` transposed. Both tiles have kDim columns.
template <int kDim, int M, int N>
__device__ __forceinline__ void add_product_transposed(float (&sum)[M][N][4], const bf16* a, int a_row,
                                                       const bf16* b) {
  static_assert(N % 2 == 0);
  constexpr int kStride = kTileStride<kDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bf16* a_lane = a + (a_row + lane % 16) * kStride + lane / 16 * 8;
  const bf16* b_lane = b + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kDim; k += 16) {
    uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) ldmatrix_x4(left[m], a_lane + 16 * m * kStride + k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t right[4];
      ldmatrix_x4(right, b_lane + 8 * n * kStride + k);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_m16n8k16_bf16(sum[m][n], left[m], right[0], right[1]);
        mma_m16n8k16_bf16(sum[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// sum [16 M, kDim] += left [16 M, 16 K] times rows 0..16 K of `b`.
template <int kDim, int M, int K>
__device__ __forceinline__ void add_product(float (&sum)[M][kDim / 8][4], const uint32_t (&left)[M][K][4],
                                            const bf16* b) {
  constexpr int kStride = kTileStride<kDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bf16* b_lane = b + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int n = 0; n < kDim / 8; n += 2) {
      uint32_t right[4];
      ldmatrix_x4_trans(right, b_lane + 16 * k * kStride + 8 * n);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_m16n8k16_bf16(sum[m][n], left[m][k], right[0], right[1]);
        mma_m16n8k16_bf16(sum[m][n + 1], left[m][k], right[2], right[3]);
      }
    }
  }
}

// Rounds sums [16 M, 8 N] to a left operand.
template <int M, int N>
__device__ __forceinline__ void pack_left(const float (&sum)[M][N][4], uint32_t (&left)[M][N / 2][4]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      left[m][n / 2][n % 2 * 2] = pack_bf16x2(sum[m][n][0], sum[m][n][1]);
      left[m][n / 2][n % 2 * 2 + 1] = pack_bf16x2(sum[m][n][2], sum[m][n][3]);
    }
  }
}

template <int M, int N>
__device__ __forceinline__ void set_zero(float (&sum)[M][N][4]) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] = 0.0f;
}

template <int M, int N>
__device__ __forceinline__ void multiply(float (&sum)[M][N][4], float factor) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] *= factor;
}

// Writes each warp's sums as its rows row.. of the tile, and then, all of the block's threads together, the
// tile's first `rows` rows and `dim` columns to memory in 16-byte pieces. Begins and ends without a barrier: no
// thread may still read the tile.
template <int kDim, int kRows, int kThreads, int M>
__device__ __forceinline__ void store_tile(const float (&sum)[M][kDim / 8][4], int row, bf16* tile, bf16* to,
                                           int step, int rows, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      bf16* at = tile + (row + 16 * m + lane / 4) * kTileStride<kDim> + 8 * n + lane % 4 * 2;
      *reinterpret_cast<uint32_t*>(at) = pack_bf16x2(sum[m][n][0], sum[m][n][1]);
      *reinterpret_cast<uint32_t*>(at + 8 * kTileStride<kDim>) = pack_bf16x2(sum[m][n][2], sum[m][n][3]);
    }
  }
  __syncthreads();
  constexpr int kPacks = kDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int from_row = i / kPacks, column = i % kPacks * 8;
    if (from_row < rows && column < dim)
      *reinterpret_cast<uint4*>(to + static_cast<int64_t>(from_row) * step + column) =
          *reinterpret_cast<const uint4*>(tile + from_row * kTileStride<kDim> + column);
  }
}

// Calls body<kDim>() with the tile width that holds head_dim columns.
template <typename Body>
void dispatch_tile_width(int head_dim, Body&& body) {
  if (head_dim <= 32) return body.template operator()<32>();
  if (head_dim <= 64) return body.template operator()<64>();
  if (head_dim <= 80) return body.template operator()<80>();
  if (head_dim <= 96) return body.template operator()<96>();
  return body.template operator()<128>();
}

}  // namespace tessera::cuda
