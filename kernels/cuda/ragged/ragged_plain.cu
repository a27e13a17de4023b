// Products of rows in groups of any shape: f32, and bf16 whose rows are no whole packs of 16 bytes.
//
// Floor: 2 m n k operations at the rate of plain multiply-adds (67 TFLOP/s on an H100 by datasheet); each of
// a thread's 4 x 4 sums takes one multiply-add per two loads of four from shared memory, which holds it to
// about half of that. Not yet timed on a GPU. f32 is for tests and small models: training computes in bf16.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/number.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/ragged/ragged_tiles.h"

namespace tessera::cuda {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;

// The sum of this and all lower lanes' values.
__device__ __forceinline__ int64_t sum_up_to(int64_t value) {
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const int64_t other = __shfl_up_sync(kAllLanes, value, delta);
    if (lane >= delta) value += other;
  }
  return value;
}

// One warp: groups are few.
__global__ void __launch_bounds__(32)
    find_groups_kernel(RaggedRun run, int tile_rows, RaggedGroups found) {
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t start = run.start != nullptr ? *run.start : 0, rows = run.shape.m, last = run.shape.groups + 1;
  // Of the sizes up to this device's last group, and one more, the rows before.
  int64_t row = 0;
  for (int64_t first = 0; first <= start + run.shape.groups; first += 32) {
    const int64_t i = first + lane, size = i < run.size_count ? max(run.sizes[i], 0) : 0;
    const int64_t end = min(rows, row + sum_up_to(size)), before = __shfl_up_sync(kAllLanes, end, 1);
    const int64_t entry = i - start + 1;
    if (entry >= 1 && entry <= last) found.starts[entry] = lane == 0 ? row : before;
    row = __shfl_sync(kAllLanes, end, 31);
  }
  if (lane == 0) {
    found.starts[0] = 0;
    found.starts[last + 1] = rows;
  }
  __syncwarp();
  int64_t tile = 0;
  for (int64_t first = 0; first <= last + 1; first += 32) {
    const int64_t entry = first + lane;
    const int64_t size = entry <= last ? found.starts[entry + 1] - found.starts[entry] : 0;
    const int64_t count = (size + tile_rows - 1) / tile_rows, tiles = tile + sum_up_to(count);
    if (entry <= last + 1) found.tiles[entry] = tiles - count;
    tile = __shfl_sync(kAllLanes, tiles, 31);
  }
}

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kOwn = 4;  // a thread's sums are 4 x 4
constexpr int kStride = kTile + 4;

// Elements from one to the next along the tile and along the depth.
struct Steps {
  int64_t tile, depth;
};

// shared [kDepth, kTile] = the operand's elements from `from`; neighbouring threads read neighbours in memory.
template <typename T>
__device__ __forceinline__ void load_tile(float (&shared)[kDepth][kStride], const T* from, const Steps& steps, int size,
                                          int64_t depth) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kTile * kDepth; i += kThreads) {
    const int place = i + thread, d = steps.depth == 1 ? place % kDepth : place / kTile,
              t = steps.depth == 1 ? place / kDepth : place % kTile;
    shared[d][t] = t < size && d < depth ? to_float(from[t * steps.tile + d * steps.depth]) : 0.0f;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ragged_plain_kernel(RaggedShape s, RaggedGroups groups, const T* a, const T* b, void* result, bool is_wide) {
  __shared__ __align__(16) float left[kDepth][kStride], right[kDepth][kStride];
  const int row = static_cast<int>(threadIdx.x) / (kTile / kOwn) * kOwn,
            column = static_cast<int>(threadIdx.x) % (kTile / kOwn) * kOwn;
  const bool is_sum_of_rows = s.kind == RaggedKind::contraction;
  const Steps of_a = is_sum_of_rows ? Steps{1, s.k} : Steps{s.k, 1},
              of_b = s.kind == RaggedKind::by_columns ? Steps{s.k, 1} : Steps{1, s.n};
  const int64_t count = ragged_tile_count<kTile>(s, groups);
  for (int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const RaggedTile tile = ragged_tile<kTile>(s, groups, index);
    float sum[kOwn][kOwn] = {};
    for (int64_t depth = 0; depth < tile.depth; depth += kDepth) {
      __syncthreads();  // all are done with the tiles before
      load_tile(left, a + tile.a + depth * of_a.depth, of_a, tile.rows, tile.depth - depth);
      load_tile(right, b + tile.b + depth * of_b.depth, of_b, tile.columns, tile.depth - depth);
      __syncthreads();
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        const Floats<kOwn> x = load_floats<kOwn>(&left[d][row]), y = load_floats<kOwn>(&right[d][column]);
#pragma unroll
        for (int i = 0; i < kOwn; ++i)
#pragma unroll
          for (int j = 0; j < kOwn; ++j) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
      }
    }
    for (int i = 0; i < kOwn; ++i)
      for (int j = 0; j < kOwn; ++j) {
        if (row + i >= tile.rows || column + j >= tile.columns) continue;
        const int64_t at = tile.result + (row + i) * s.n + column + j;
        if (is_wide)
          static_cast<float*>(result)[at] = sum[i][j];
        else
          static_cast<T*>(result)[at] = from_float<T>(sum[i][j]);
      }
  }
}

}  // namespace

int64_t ragged_workspace(int64_t groups) { return 2 * (groups + 3) * static_cast<int64_t>(sizeof(int64_t)); }

RaggedGroups find_groups(const RaggedRun& run, int tile_rows, cudaStream_t stream) {
  auto* starts = static_cast<int64_t*>(run.workspace);
  const RaggedGroups found{starts, starts + run.shape.groups + 3};
  launch(find_groups_kernel, dim3(1), dim3(32), 0, stream, run, tile_rows, found);
  return found;
}

template <typename T>
void ragged_plain_product(const RaggedRun& run, const T* a, const T* b, void* result, cudaStream_t stream) {
  if (result_elements(run.shape) == 0) return;
  const RaggedGroups groups = find_groups(run, kTile, stream);
  launch(ragged_plain_kernel<T>, dim3(ragged_blocks<kTile>(run.shape, 4 * run.multiprocessors)), dim3(kThreads), 0,
         stream, run.shape, groups, a, b, result, run.is_wide);
}

template void ragged_plain_product(const RaggedRun&, const float*, const float*, void*, cudaStream_t);
template void ragged_plain_product(const RaggedRun&, const bf16*, const bf16*, void*, cudaStream_t);

}  // namespace tessera::cuda
