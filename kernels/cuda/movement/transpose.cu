// Bound by memory: 2 x bytes / bandwidth. Squares go through shared memory, so that a warp reads and writes 128
// neighbouring bytes (two bf16 or four bytes a lane, where the shape allows it); rows in shared memory are padded by
// one access, so that reads down a column of 4-byte elements meet every bank once.
#include "core/base/error.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/movement/transpose.h"

namespace tessera::cuda {
namespace {

constexpr int kLanes = 32, kTall = 8;

struct Tiles {
  int64_t down, across;  // tiles of a batch
};

// V elements an access. Block number (batch * down + i) * across + j.
template <typename T, int V>
__global__ void __launch_bounds__(kLanes* kTall) transpose_kernel(TileShape s, Tiles tiles, const T* from, T* to) {
  constexpr int kTile = kLanes * V;
  __shared__ __align__(16) T tile[kTile][kTile + V];  // [column, row]
  const int lane = static_cast<int>(threadIdx.x) % kLanes, line = static_cast<int>(threadIdx.x) / kLanes;
  int64_t rest = blockIdx.x / (tiles.down * tiles.across);
  const int64_t square = blockIdx.x % (tiles.down * tiles.across);
  for (int d = s.batch.rank - 1; d >= 0; --d) {
    const int64_t at = rest % s.batch.size[d];
    rest /= s.batch.size[d];
    from += at * s.batch.from[d];
    to += at * s.batch.to[d];
  }
  const int64_t row0 = square / tiles.across * kTile, column0 = square % tiles.across * kTile;
  const int64_t row = row0 + lane * V, column = column0 + lane * V;
#pragma unroll
  for (int i = 0; i < kTile / kTall; ++i) {
    const int c = i * kTall + line;
    if (row < s.rows && column0 + c < s.columns)
      store<V>(&tile[c][lane * V], load<V>(from + (column0 + c) * s.from_pitch + row));
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTile / kTall; ++i) {
    const int r = i * kTall + line;
    if (row0 + r >= s.rows || column >= s.columns) continue;
    Pack<T, V> pack;
#pragma unroll
    for (int k = 0; k < V; ++k) pack.value[k] = tile[lane * V + k][r];
    store<V>(to + (row0 + r) * s.to_pitch + column, pack);
  }
}

template <typename T, int V>
void launch_tiles(const TileShape& s, const void* from, void* to, cudaStream_t stream) {
  constexpr int64_t kTile = kLanes * V;
  const Tiles tiles{(s.rows + kTile - 1) / kTile, (s.columns + kTile - 1) / kTile};
  int64_t blocks = tiles.down * tiles.across;
  for (int d = 0; d < s.batch.rank; ++d) blocks *= s.batch.size[d];
  if (blocks == 0) return;
  TESSERA_CHECK(blocks < int64_t{1} << 31, "a transpose of ", blocks, " tiles");
  launch(transpose_kernel<T, V>, dim3(static_cast<unsigned>(blocks)), dim3(kLanes * kTall), 0, stream, s, tiles,
         static_cast<const T*>(from), static_cast<T*>(to));
}

template <typename T>
void transpose_elements(const TileShape& s, const void* from, void* to, cudaStream_t stream) {
  constexpr int kWide = sizeof(T) < 4 ? 4 / sizeof(T) : 1;
  bool is_wide = are_aligned(kWide * static_cast<int64_t>(sizeof(T)), from, to) && s.rows % kWide == 0 &&
                 s.columns % kWide == 0 && s.from_pitch % kWide == 0 && s.to_pitch % kWide == 0;
  for (int d = 0; d < s.batch.rank; ++d)
    is_wide = is_wide && s.batch.from[d] % kWide == 0 && s.batch.to[d] % kWide == 0;
  if (is_wide)
    launch_tiles<T, kWide>(s, from, to, stream);
  else
    launch_tiles<T, 1>(s, from, to, stream);
}

}  // namespace

void transpose_tiles(int bytes, const TileShape& shape, const void* from, void* to, cudaStream_t stream) {
  switch (bytes) {
    case 1: return transpose_elements<uint8_t>(shape, from, to, stream);
    case 2: return transpose_elements<uint16_t>(shape, from, to, stream);
    case 4: return transpose_elements<uint32_t>(shape, from, to, stream);
    case 8: return transpose_elements<uint64_t>(shape, from, to, stream);
    default: TESSERA_CHECK(false, "a transpose of elements of ", bytes, " bytes");
  }
}

}  // namespace tessera::cuda
