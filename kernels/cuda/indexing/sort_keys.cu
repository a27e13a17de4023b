// Bitonic sort (Batcher 1968): log2(n) (log2(n) + 1) / 2 steps, all of them over fixed pairs, so that what a launch
// does depends on n alone. Steps within 1024 keys share one launch through shared memory; each of the others reads
// and writes all keys: for a million keys 55 launches of 16 MB, about 0.2 ms at 4.8 TB/s. A radix sort would move a
// tenth of that, and is not needed for the scatters that models have.
#include "core/base/error.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/indexing/sort_keys.h"

namespace tessera::cuda {
namespace {

constexpr int kBlockKeys = 1024, kThreads = 256;

// The first of pair number `t` of keys that stand `distance` apart.
__device__ __forceinline__ int64_t first_of_pair(int64_t t, int64_t distance) { return 2 * t - (t & (distance - 1)); }

__device__ __forceinline__ void order(uint64_t& low, uint64_t& high, bool ascends) {
  const uint64_t a = low, b = high;
  if ((a > b) == ascends) {
    low = b;
    high = a;
  }
}

// Merges of `size` for size = first, 2 first, ... last, as far as pairs are less than kBlockKeys apart.
__global__ void __launch_bounds__(kThreads) sort_block_kernel(uint64_t* keys, int64_t count, int64_t first,
                                                              int64_t last) {
  __shared__ uint64_t shared[kBlockKeys];
  const int64_t base = int64_t{blockIdx.x} * kBlockKeys;
  const int own = static_cast<int>(count - base < kBlockKeys ? count - base : kBlockKeys);
  for (int i = static_cast<int>(threadIdx.x); i < own; i += kThreads) shared[i] = keys[base + i];
  __syncthreads();
  for (int64_t size = first; size <= last; size *= 2) {
    for (int distance = static_cast<int>(size < kBlockKeys ? size : kBlockKeys) / 2; distance > 0; distance /= 2) {
      for (int t = static_cast<int>(threadIdx.x); t < own / 2; t += kThreads) {
        const auto i = static_cast<int>(first_of_pair(t, distance));
        order(shared[i], shared[i + distance], ((base + i) & size) == 0);
      }
      __syncthreads();
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < own; i += kThreads) keys[base + i] = shared[i];
}

__global__ void __launch_bounds__(kThreads) sort_step_kernel(uint64_t* keys, int64_t count, int64_t size,
                                                             int64_t distance) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= count / 2) return;
  const int64_t i = first_of_pair(t, distance);
  order(keys[i], keys[i + distance], (i & size) == 0);
}

}  // namespace

void sort_keys(uint64_t* keys, int64_t count, cudaStream_t stream) {
  TESSERA_CHECK(count > 0 && (count & (count - 1)) == 0, "a sort of ", count, " keys");
  const unsigned blocks = blocks_for(count, kBlockKeys);
  launch(sort_block_kernel, dim3(blocks), dim3(kThreads), 0, stream, keys, count, int64_t{2},
         count < kBlockKeys ? count : int64_t{kBlockKeys});
  for (int64_t size = 2 * kBlockKeys; size <= count; size *= 2) {
    for (int64_t distance = size / 2; distance >= kBlockKeys; distance /= 2)
      launch(sort_step_kernel, dim3(blocks_for(count / 2, kThreads)), dim3(kThreads), 0, stream, keys, count, size,
             distance);
    launch(sort_block_kernel, dim3(blocks), dim3(kThreads), 0, stream, keys, count, size, size);
  }
}

}  // namespace tessera::cuda
