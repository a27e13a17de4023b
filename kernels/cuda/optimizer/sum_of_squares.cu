// Bound by memory: the tensor read once, 4 n (2 n) bytes; floor 0.83 us for a million f32 at 4.8 TB/s, below the
// two launches that it takes.
//
// Order: a thread squares and adds packs in f32, at most four deep, and adds these sums up in f64; so do the
// trees over the block and over the blocks. A sum of 10^9 squares then is as exact as one of sixteen, and an
// infinite square stays infinite (a compensated f32 sum would make NaN of it). One f64 operation for 16 and
// more elements costs nothing, even where f64 runs at a 64th of f32's rate. The number of blocks follows from
// n alone, so that the result has the same bits on every device.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/optimizer/sum_of_squares.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kLoads = 4;
constexpr int64_t kElementsPerBlock = 1 << 14, kMaxBlocks = 1024;

unsigned blocks_of(int64_t n) { return blocks_for(n, kElementsPerBlock, kMaxBlocks); }

// kLoads packs that stand `stride` packs apart, as one f32.
template <typename T, int N>
__device__ __forceinline__ float sum_of_packs(const T* x, int64_t stride) {
  Pack<T, N> packs[kLoads];
#pragma unroll
  for (int l = 0; l < kLoads; ++l) packs[l] = load<N>(x + l * stride * N);
  float sums[N] = {};
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i] += to_float(packs[l].value[i]) * to_float(packs[l].value[i]);
  }
#pragma unroll
  for (int width = N / 2; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// The only block of a grid writes the result, one of several its part of it.
__device__ __forceinline__ void finish(double sum, double* partials, float* result) {
  __shared__ double shared[32];
  sum = block_reduce(sum, shared, Sum{});
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1)
    *result = static_cast<float>(sum);
  else
    partials[blockIdx.x] = sum;
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(int64_t n, const T* x, double* partials, float* result) {
  const int64_t packs = n / N, stride = int64_t{gridDim.x} * kThreads;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t rest = packs * N + i;
  double sum = 0;
  for (; i + (kLoads - 1) * stride < packs; i += kLoads * stride) sum += sum_of_packs<T, N>(x + i * N, stride);
  for (; i < packs; i += stride) {
    const Pack<T, N> pack = load<N>(x + i * N);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += to_float(pack.value[k]) * to_float(pack.value[k]);
  }
  if (N > 1 && rest < n) sum += to_float(x[rest]) * to_float(x[rest]);
  finish(sum, partials, result);
}

__global__ void __launch_bounds__(kThreads) partials_kernel(int64_t count, const double* partials, float* result) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partials[i];
  finish(sum, nullptr, result);
}

}  // namespace

int64_t sum_of_squares_workspace(int64_t n) {
  const int64_t blocks = blocks_of(n);
  return blocks == 1 ? 0 : blocks * static_cast<int64_t>(sizeof(double));
}

template <typename T>
void sum_of_squares(int64_t n, const T* x, float* result, void* workspace, cudaStream_t stream) {
  const unsigned blocks = blocks_of(n);
  double* partials = static_cast<double*>(workspace);
  launch(are_aligned(16, x) ? squares_kernel<T, kPackSize<T>> : squares_kernel<T, 1>, dim3(blocks), dim3(kThreads), 0,
         stream, n, x, partials, result);
  if (blocks > 1) launch(partials_kernel, dim3(1), dim3(kThreads), 0, stream, int64_t{blocks}, partials, result);
}

template void sum_of_squares(int64_t, const float*, float*, void*, cudaStream_t);
template void sum_of_squares(int64_t, const bf16*, float*, void*, cudaStream_t);

}  // namespace tessera::cuda
