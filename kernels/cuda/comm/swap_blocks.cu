// Bound by memory: 2 * bytes / bandwidth. A row of threads copies one run, in accesses as wide as runs and
// addresses allow; runs of at least 16 bytes and a multiple of that move at the speed of a copy.
#include "kernels/cuda/comm/swap_blocks.h"
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

struct alignas(16) Wide {
  uint64_t low, high;
};

// threadIdx.x and blockIdx.y walk along a run of `length` elements, threadIdx.y and blockIdx.x over the runs.
template <typename T>
__global__ void swap_blocks_kernel(T* to, const T* from, int64_t a, int64_t b, int64_t length) {
  const int64_t first = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.y} * blockDim.x;
  for (int64_t run = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; run < a * b;
       run += int64_t{gridDim.x} * blockDim.y) {
    const int64_t row = run / b, column = run - row * b;
    const T* source = from + run * length;
    T* target = to + (column * a + row) * length;
    for (int64_t i = first; i < length; i += step) target[i] = source[i];
  }
}

template <typename T>
void swap_as(void* to, const void* from, int64_t a, int64_t b, int64_t run_bytes, cudaStream_t stream) {
  const int64_t length = run_bytes / static_cast<int64_t>(sizeof(T));
  int along = 1;
  while (along < kThreads && along < length) along *= 2;
  const int rows = kThreads / along;
  // Few long runs are cut among blocks, many short ones share one.
  const unsigned blocks = blocks_for(a * b, rows, 1 << 16);
  const unsigned pieces = blocks >= 2048 ? 1 : blocks_for(length, 8 * along, 2048 / blocks);
  launch(swap_blocks_kernel<T>, dim3(blocks, pieces), dim3(static_cast<unsigned>(along), static_cast<unsigned>(rows)),
         0, stream, static_cast<T*>(to), static_cast<const T*>(from), a, b, length);
}

}  // namespace

void swap_blocks(void* to, const void* from, int64_t a, int64_t b, int64_t run_bytes, cudaStream_t stream) {
  if (a == 0 || b == 0 || run_bytes == 0) return;
  const auto fits = [&](int64_t bytes) { return run_bytes % bytes == 0 && are_aligned(bytes, to, from); };
  if (fits(16)) return swap_as<Wide>(to, from, a, b, run_bytes, stream);
  if (fits(8)) return swap_as<uint64_t>(to, from, a, b, run_bytes, stream);
  if (fits(4)) return swap_as<uint32_t>(to, from, a, b, run_bytes, stream);
  if (fits(2)) return swap_as<uint16_t>(to, from, a, b, run_bytes, stream);
  swap_as<uint8_t>(to, from, a, b, run_bytes, stream);
}

}  // namespace tessera::cuda
