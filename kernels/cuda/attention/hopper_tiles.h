// What the attention kernels for compute capability 9.0 share: tiles of bf16 in shared memory as copies by tensor maps
// write them and warpgroup products read them (device/matrix_descriptor.h), and the rows of sums of a warpgroup.
//
// A block is a warpgroup that copies and kConsumers of them that compute, each with 64 rows. Sums [64, 8 N] lie in
// registers as float[N][4], a lane's part of each warp's 16 x 8: with g = lane / 4 and t = lane % 4 the elements 0, 1
// are row g, columns 2t, 2t + 1, and 2, 3 the same of row g + 8.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention/attention_mask.h"
#include "kernels/cuda/device/bulk_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/matrix_descriptor.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/device/wgmma.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

inline constexpr int kGroupThreads = 128, kGroupRows = 64;  // of a warpgroup
inline constexpr int kConsumers = 2;
inline constexpr int kHopperThreads = (1 + kConsumers) * kGroupThreads;
inline constexpr int kConsumerWarps = 4 * kConsumers;
// Registers of a thread: 65,536 by three warpgroups are 168, of which those that copy leave most to the others.
inline constexpr int kCopyRegisters = 40, kComputeRegisters = 232;

// Named barriers; 0 is __syncthreads.
inline constexpr int kTurnBarrier = 1, kGroupBarrier = 1 + kConsumers;

// kRows rows of one head.
template <int kRows, int kDim>
struct alignas(1024) HopperTile {
  static constexpr int kPanels = kDim / kPanelColumns, kPanelBytes = kRows * kPanelRowBytes;
  static constexpr int kBytes = kPanels * kPanelBytes;
  unsigned char bytes[kBytes];

  // Eight elements from a column that is a multiple of 8.
  __device__ __forceinline__ unsigned char* piece(int row, int column) {
    return bytes + column / kPanelColumns * kPanelBytes + row * kPanelRowBytes +
           ((column / 8 ^ row) % 8) * 16;
  }
};

// The same in the whole warp, and known to be so by the compiler: registers and branches that follow from it are
// those of the warp.
__device__ __forceinline__ int uniform(int value) { return __shfl_sync(0xffffffffu, value, 0); }

// The warpgroup's number, and the warp's in it.
__device__ __forceinline__ int warp_group() { return uniform(static_cast<int>(threadIdx.x) / kGroupThreads); }
__device__ __forceinline__ int warp_of_group() { return static_cast<int>(threadIdx.x) / 32 % 4; }
__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % 32; }

// The block's dynamic shared memory as a T, of which launches ask for kSharedBytesOf<T>.
template <typename T>
inline constexpr int64_t kSharedBytesOf = sizeof(T) + alignof(T);
template <typename T>
__device__ __forceinline__ T& aligned_shared() {
  unsigned char* const base = dynamic_shared<unsigned char>();
  return *reinterpret_cast<T*>(base + (alignof(T) - shared_address(base) % alignof(T)) % alignof(T));
}

// Asks for a tile from row `row` on; rows behind the tensor's last are zeros. `barrier` counts its bytes.
template <int kRows, int kDim>
__device__ __forceinline__ void copy_tile_async(HopperTile<kRows, kDim>& tile, const TensorMap* map, int head, int row,
                                                int batch, Mbarrier* barrier) {
#pragma unroll
  for (int p = 0; p < tile.kPanels; ++p)
    copy_box_async(tile.bytes + p * tile.kPanelBytes, map, p * kPanelColumns, head, row, batch, barrier);
}

// For rows 0.. of a tensor [batch, length, heads, head_dim].
template <int kRows>
TensorMap tile_map(const bf16* data, int batch, int length, int heads, int head_dim) {
  return make_tensor_map(data, {head_dim, heads, length, batch}, {kPanelColumns, 1, kRows, 1});
}

// A span from the first row of the tile of kRows that it begins in.
template <int kRows>
__device__ __forceinline__ Span tiles_of(Span rows) {
  return {uniform(rows.begin / kRows * kRows), uniform(rows.end)};
}

// For functions of attention_mask.h, which know several rows of 16 a warp.
template <int N>
__device__ __forceinline__ float (&as_one(float (&sum)[N][4]))[1][N][4] {
  return *reinterpret_cast<float (*)[1][N][4]>(&sum);
}

// A ring of stages: which is next, and the parity of the phase that its barriers are in.
struct RingPlace {
  int stage = 0, parity = 0;
  template <int kStages>
  __device__ __forceinline__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// Says for this warp that it is done with what `barrier` guards.
__device__ __forceinline__ void release(Mbarrier* barrier) {
  if (lane_of_warp() == 0) mbarrier_arrive(barrier);
}

// ---- Products of a warpgroup: begun, neither committed nor waited for --------------------------------------------

// sum [64, 8 N] = rows a_row.. of `a`, times rows 0..8 N of `b` transposed.
template <int kARows, int kRows, int kDim, int N>
__device__ __forceinline__ void begin_product_transposed(float (&sum)[N][4], const HopperTile<kARows, kDim>& a,
                                                         int a_row, const HopperTile<kRows, kDim>& b) {
  static_assert(kRows == 8 * N);
  const uint64_t left = columns_descriptor(a.bytes + a_row * kPanelRowBytes), right = columns_descriptor(b.bytes);
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    const int panel = k / 4, inside = k % 4 * 32;
    const uint64_t at_left = advance(left, panel * a.kPanelBytes + inside),
                   at_right = advance(right, panel * b.kPanelBytes + inside);
    if (k == 0)
      wgmma_columns_first(sum, at_left, at_right);
    else
      wgmma_columns(sum, at_left, at_right);
  }
}

// The same with the 64 rows in registers.
template <int kRows, int kDim, int N>
__device__ __forceinline__ void begin_product_transposed(float (&sum)[N][4], const uint32_t (&left)[kDim / 16][4],
                                                         const HopperTile<kRows, kDim>& b) {
  static_assert(kRows == 8 * N);
  const uint64_t right = columns_descriptor(b.bytes);
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    const uint64_t at_right = advance(right, k / 4 * b.kPanelBytes + k % 4 * 32);
    if (k == 0)
      wgmma_left_columns_first(sum, left[k], at_right);
    else
      wgmma_left_columns(sum, left[k], at_right);
  }
}

// sum [64, kDim] += left [64, 16 K] times rows 0..16 K of `b`.
template <int kRows, int kDim, int K>
__device__ __forceinline__ void begin_product(float (&sum)[kDim / 8][4], const uint32_t (&left)[K][4],
                                              const HopperTile<kRows, kDim>& b) {
  static_assert(kRows == 16 * K);
  const uint64_t right = rows_descriptor(b.bytes, b.kPanelBytes);
#pragma unroll
  for (int k = 0; k < K; ++k) wgmma_rows(sum, left[k], advance(right, 16 * k * kPanelRowBytes));
}

// ---- Sums in registers -------------------------------------------------------------------------------------------

template <int N>
__device__ __forceinline__ void set_zero(float (&sum)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[n][i] = 0.0f;
}

// The warpgroup's 64 rows of a tile, from `row` on, as a left operand.
template <int kRows, int kDim>
__device__ __forceinline__ void load_left(uint32_t (&left)[kDim / 16][4], HopperTile<kRows, kDim>& tile, int row) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k)
    ldmatrix_x4(left[k], tile.piece(row + 16 * warp_of_group() + lane % 16, 16 * k + lane / 16 * 8));
}

// Rounds sums [64, 8 N] to a left operand.
template <int N>
__device__ __forceinline__ void pack_left(const float (&sum)[N][4], uint32_t (&left)[N / 2][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    left[n / 2][n % 2 * 2] = pack_bf16x2(sum[n][0], sum[n][1]);
    left[n / 2][n % 2 * 2 + 1] = pack_bf16x2(sum[n][2], sum[n][3]);
  }
}

// Writes factor * sums as the warpgroup's 64 rows of the tile, which no other warpgroup uses, and from there in 16-byte
// pieces to memory, of which `rows` rows are there for the whole tile.
template <int kRows, int kDim>
__device__ __forceinline__ void store_rows(const float (&sum)[kDim / 8][4], float factor,
                                           HopperTile<kRows, kDim>& tile, int group, bf16* to, int step, int rows) {
  const int lane = lane_of_warp(), first = group * kGroupRows, row = first + 16 * warp_of_group() + lane / 4;
  barrier_sync(kGroupBarrier + group, kGroupThreads);  // the last products of all four warps are done
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
    const int inside = lane % 4 * 4;
    *reinterpret_cast<uint32_t*>(tile.piece(row, 8 * n) + inside) =
        pack_bf16x2(factor * sum[n][0], factor * sum[n][1]);
    *reinterpret_cast<uint32_t*>(tile.piece(row + 8, 8 * n) + inside) =
        pack_bf16x2(factor * sum[n][2], factor * sum[n][3]);
  }
  barrier_sync(kGroupBarrier + group, kGroupThreads);
  constexpr int kPieces = kDim / 8;
  const int left = min(kGroupRows, rows - first);
  for (int i = static_cast<int>(threadIdx.x) % kGroupThreads; i < left * kPieces; i += kGroupThreads) {
    const int from = first + i / kPieces, column = i % kPieces * 8;
    *reinterpret_cast<uint4*>(to + static_cast<int64_t>(from) * step + column) =
        *reinterpret_cast<const uint4*>(tile.piece(from, column));
  }
}

// Rows first.. of a tile become zeros, seen by this warpgroup's next products. What a mask hides adds nothing only
// where it is finite, and behind the last key that is seen may lie what nobody has written yet. Several warpgroups
// may do the same.
template <int kRows, int kDim>
__device__ __forceinline__ void clear_rows(HopperTile<kRows, kDim>& tile, int first, int group) {
  constexpr int kPieces = kDim / 8;
  for (int i = max(first, 0) * kPieces + static_cast<int>(threadIdx.x) % kGroupThreads; i < kRows * kPieces;
       i += kGroupThreads)
    *reinterpret_cast<uint4*>(tile.piece(i / kPieces, i % kPieces * 8)) = uint4{0, 0, 0, 0};
  fence_async_shared();
  barrier_sync(kGroupBarrier + group, kGroupThreads);
}

// Calls body<kDim>() with the head size, one of those that hopper_attention_takes.
template <typename Body>
void dispatch_head_dim(int head_dim, Body&& body) {
  if (head_dim == 64) return body.template operator()<64>();
  TESSERA_CHECK(head_dim == 128, "no kernel for head_dim ", head_dim);
  body.template operator()<128>();
}

}  // namespace tessera::cuda
