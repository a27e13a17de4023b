// Products of rows in groups in bf16 by mma.sync, for sm_80 and later.
//
// Floor: 2 m n k operations over the tensor cores' rate by datasheet, 312 TFLOP/s on an A100, 989 on an H100 or
// H200, of which mma.sync can have a part only. Bytes: with few rows per group the matrices are the limit,
// g k n of them once from memory (a group of r rows has r operations per byte of its matrix; an H200 balances
// at about 200). Partly filled tiles compute zeros: on average half a tile of 128 rows per group is lost.
// Not yet timed on a GPU.
//
// Blocks of 8 warps walk over tiles of 128 x 128; a warp has 64 x 32 of them, so that 6 ldmatrix feed 16
// products. Operands come through kStages tiles of 32 in depth, of which all but one are on their way while
// one is multiplied. Sums leave through shared memory, in pieces of 16 bytes.
#include "kernels/cuda/device/copy_async.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/ragged/ragged_tiles.h"

namespace tessera::cuda {
namespace {

constexpr int kTile = 128, kDepth = 32, kStages = 4, kThreads = 256;
constexpr int kWarpRows = 64, kWarpColumns = 32, kWarpsAcross = kTile / kWarpColumns;
constexpr int M = kWarpRows / 16, N = kWarpColumns / 8;
constexpr int kSumStride = kTile + 8;  // of the sums in shared memory, in floats

// A tile of one operand, in shared memory as in device memory: with the depth side by side in rows of the tile,
// or (kAcross) the tile side by side in rows of the depth. Rows have 16 bytes more than they need, so that
// eight rows begin in eight different sets of banks.
template <bool kAcross>
struct Operand {
  static constexpr int kRow = kAcross ? kTile : kDepth, kRows = kAcross ? kDepth : kTile, kStride = kRow + 8,
                       kElements = kRows * kStride, kPacks = kRow / 8, kRowsAtOnce = kThreads / kPacks;
  static_assert(kThreads % kPacks == 0 && kRows % kRowsAtOnce == 0);

  // `size` of the tile's extent exist; rows in memory are `step` elements apart.
  __device__ __forceinline__ Operand(const bf16* from, int64_t step, int size)
      : row(static_cast<int>(threadIdx.x) / kPacks),
        column(static_cast<int>(threadIdx.x) % kPacks * 8),
        size(size),
        step(step),
        at(from + row * step + column) {}

  // Begins to copy the next piece of the depth, of which `depth` is left.
  __device__ __forceinline__ void copy(bf16* tile, int64_t depth) {
    const int left = static_cast<int>(depth < kDepth ? depth : kDepth);
    const int rows = (kAcross ? left : size) - row;
    const bool is_inside = column < (kAcross ? size : left);
    const bf16* from = at;
    bf16* to = tile + row * kStride + column;
#pragma unroll
    for (int i = 0; i < kRows; i += kRowsAtOnce) {
      copy_async<16>(to + i * kStride, from, is_inside && i < rows);
      from += kRowsAtOnce * step;
    }
    at += kAcross ? kDepth * step : kDepth;
  }

  int row, column, size;
  int64_t step;
  const bf16* at;
};

// What lane of a warp reads which row for ldmatrix: fragments of rows [row, row + 16) as left operand ...
template <bool kAcross>
__device__ __forceinline__ int left_offset(int row, int lane) {
  constexpr int kStride = Operand<kAcross>::kStride;
  return kAcross ? (lane / 16 * 8 + lane % 8) * kStride + row + lane / 8 % 2 * 8
                 : (row + lane % 16) * kStride + lane / 16 * 8;
}
// ... and of columns [column, column + 16) as right operand.
template <bool kAcross>
__device__ __forceinline__ int right_offset(int column, int lane) {
  constexpr int kStride = Operand<kAcross>::kStride;
  return kAcross ? lane % 16 * kStride + column + lane / 16 * 8
                 : (column + lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
}
// `tile` steps along the tile and `depth` along the depth.
template <bool kAcross>
__device__ __forceinline__ void load_fragment(uint32_t (&fragment)[4], const bf16* lane_at, int tile, int depth) {
  constexpr int kStride = Operand<kAcross>::kStride;
  if constexpr (kAcross)
    ldmatrix_x4_trans(fragment, lane_at + depth * kStride + tile);
  else
    ldmatrix_x4(fragment, lane_at + tile * kStride + depth);
}

// sum += the product of one piece of the depth.
template <bool kAcrossA, bool kAcrossB>
__device__ __forceinline__ void add_piece(float (&sum)[M][N][4], const bf16* a_lane, const bf16* b_lane) {
#pragma unroll
  for (int depth = 0; depth < kDepth; depth += 16) {
    uint32_t left[M][4];
#pragma unroll
    for (int i = 0; i < M; ++i) load_fragment<kAcrossA>(left[i], a_lane, 16 * i, depth);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      uint32_t right[4];
      load_fragment<kAcrossB>(right, b_lane, 8 * j, depth);
#pragma unroll
      for (int i = 0; i < M; ++i) {
        mma_m16n8k16_bf16(sum[i][j], left[i], right[0], right[1]);
        mma_m16n8k16_bf16(sum[i][j + 1], left[i], right[2], right[3]);
      }
    }
  }
}

// The block's sums, which lie in `sums` [kTile, kTile], to memory in packs of 16 bytes of T.
template <typename T>
__device__ __forceinline__ void store_sums(const float* sums, T* to, int64_t step, int rows, int columns) {
  constexpr int kPack = kPackSize<T>, kPacks = kTile / kPack;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kPacks; i += kThreads) {
    const int row = i / kPacks, column = i % kPacks * kPack;
    if (row < rows && column < columns)
      store_global(to + row * step + column, to_pack<T>(load_floats<kPack>(sums + row * kSumStride + column)));
  }
}

template <bool kAcrossA, bool kAcrossB>
__global__ void __launch_bounds__(kThreads, 2)
    ragged_tensor_kernel(RaggedShape s, RaggedGroups groups, const bf16* a, const bf16* b, void* result, bool is_wide) {
  using A = Operand<kAcrossA>;
  using B = Operand<kAcrossB>;
  constexpr int kStage = A::kElements + B::kElements;
  bf16* shared = dynamic_shared<bf16>();  // kStages of (a's tile, b's tile)
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
            row = warp / kWarpsAcross * kWarpRows, column = warp % kWarpsAcross * kWarpColumns;
  const int a_lane = left_offset<kAcrossA>(row, lane), b_lane = A::kElements + right_offset<kAcrossB>(column, lane);
  const int64_t count = ragged_tile_count<kTile>(s, groups);
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const RaggedTile tile = ragged_tile<kTile>(s, groups, index);
    A of_a(a + tile.a, s.k, tile.rows);
    B of_b(b + tile.b, kAcrossB ? s.n : s.k, tile.columns);
    int64_t asked = 0;  // depth that has been asked for
    auto ask = [&](int stage) {
      if (asked < tile.depth) {
        of_a.copy(shared + stage * kStage, tile.depth - asked);
        of_b.copy(shared + stage * kStage + A::kElements, tile.depth - asked);
      }
      asked += kDepth;
      copy_async_commit();
    };
    for (int stage = 0; stage < kStages - 1; ++stage) ask(stage);

    float sum[M][N][4] = {};
    int stage = 0;
    for (int64_t depth = 0; depth < tile.depth; depth += kDepth) {
      copy_async_wait<kStages - 2>();
      __syncthreads();  // this piece has come, and the one before is done with
      ask(stage == 0 ? kStages - 1 : stage - 1);
      add_piece<kAcrossA, kAcrossB>(sum, shared + stage * kStage + a_lane, shared + stage * kStage + b_lane);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    copy_async_wait<0>();
    __syncthreads();

    auto* sums = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int j = 0; j < N; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Floats<2> pair;
          pair[0] = sum[i][j][2 * half];
          pair[1] = sum[i][j][2 * half + 1];
          store_floats(sums + (row + 16 * i + 8 * half + lane / 4) * kSumStride + column + 8 * j + lane % 4 * 2, pair);
        }
    __syncthreads();
    if (is_wide)
      store_sums(sums, static_cast<float*>(result) + tile.result, s.n, tile.rows, tile.columns);
    else
      store_sums(sums, static_cast<bf16*>(result) + tile.result, s.n, tile.rows, tile.columns);
    __syncthreads();  // before the next tile's copies
  }
}

template <bool kAcrossA, bool kAcrossB>
void launch_product(const RaggedRun& run, const RaggedGroups& groups, const bf16* a, const bf16* b, void* result,
                    cudaStream_t stream) {
  constexpr int64_t kStageBytes = 2 * kStages * (Operand<kAcrossA>::kElements + Operand<kAcrossB>::kElements),
                    kSumBytes = 4 * kTile * kSumStride;
  launch(ragged_tensor_kernel<kAcrossA, kAcrossB>, dim3(ragged_blocks<kTile>(run.shape, 2 * run.multiprocessors)),
         dim3(kThreads), kStageBytes > kSumBytes ? kStageBytes : kSumBytes, stream, run.shape, groups, a, b, result,
         run.is_wide);
}

}  // namespace

void ragged_tensor_product(const RaggedRun& run, const bf16* a, const bf16* b, void* result, cudaStream_t stream) {
  if (result_elements(run.shape) == 0) return;
  const RaggedGroups groups = find_groups(run, kTile, stream);
  switch (run.shape.kind) {
    case RaggedKind::by_rows:
      return launch_product<false, true>(run, groups, a, b, result, stream);
    case RaggedKind::by_columns:
      return launch_product<false, false>(run, groups, a, b, result, stream);
    case RaggedKind::contraction:
      return launch_product<true, true>(run, groups, a, b, result, stream);
  }
}

}  // namespace tessera::cuda
