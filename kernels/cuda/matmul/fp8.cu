// Bound by memory. max_abs: the tensor read once, 2 n or 4 n bytes; 10 us for the 25 million bf16 of a GPT-2 124M
// step's MLP activations (8192 x 3072) at 4.8 TB/s. widen_f8: 3 n bytes.
//
// Absolute values are compared as integers: the bits of non-negative floats are in the order of their values, infinity
// behind all of them and NaN behind that. A maximum has the same bits in any order.
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/vector.h"
#include "kernels/cuda/matmul/fp8.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256, kLoads = 4;
constexpr int64_t kElementsPerBlock = 1 << 14, kMaxBlocks = 1024;

unsigned blocks_of(int64_t n) { return blocks_for(n, kElementsPerBlock, kMaxBlocks); }

struct Larger {
  static __device__ __forceinline__ uint32_t identity() { return 0; }
  __device__ __forceinline__ uint32_t operator()(uint32_t a, uint32_t b) const { return a > b ? a : b; }
};

// The bits of |x| as f32.
template <typename T>
__device__ __forceinline__ uint32_t size_bits(T x) {
  return __float_as_uint(to_float(x)) & 0x7fffffffu;
}

template <typename T, int N>
__device__ __forceinline__ uint32_t largest_of(const Pack<T, N>& pack, uint32_t before) {
#pragma unroll
  for (int k = 0; k < N; ++k) before = Larger{}(before, size_bits(pack.value[k]));
  return before;
}

// The only block of a grid writes the result, one of several its part of it.
__device__ __forceinline__ void finish(uint32_t largest, uint32_t* partials, float* result) {
  __shared__ uint32_t shared[32];
  largest = block_reduce(largest, shared, Larger{});
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1)
    *result = __uint_as_float(largest);
  else
    partials[blockIdx.x] = largest;
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) max_abs_kernel(int64_t n, const T* x, uint32_t* partials, float* result) {
  const int64_t packs = n / N, stride = int64_t{gridDim.x} * kThreads;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t rest = packs * N + i;
  uint32_t largest = 0;
  for (; i + (kLoads - 1) * stride < packs; i += kLoads * stride) {
    Pack<T, N> pack[kLoads];
#pragma unroll
    for (int l = 0; l < kLoads; ++l) pack[l] = load<N>(x + (i + l * stride) * N);
#pragma unroll
    for (int l = 0; l < kLoads; ++l) largest = largest_of(pack[l], largest);
  }
  for (; i < packs; i += stride) largest = largest_of(load<N>(x + i * N), largest);
  if (N > 1 && rest < n) largest = Larger{}(largest, size_bits(x[rest]));
  finish(largest, partials, result);
}

__global__ void __launch_bounds__(kThreads) partials_kernel(int64_t count, const uint32_t* partials, float* result) {
  uint32_t largest = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) largest = Larger{}(largest, partials[i]);
  finish(largest, nullptr, result);
}

// A code's exponent and mantissa put where those of an f32 are; a multiplication by a power of two makes up for the
// difference of the biases, exactly, also of subnormals.
__device__ __forceinline__ bf16 widened(uint8_t code, int drop, float scale, uint32_t first_special, uint32_t infinity) {
  const uint32_t size = code & 0x7fu;
  uint32_t bits = __float_as_uint(__uint_as_float(size << drop) * scale);
  if (size >= first_special) bits = size == infinity ? 0x7f800000u : 0x7fc00000u;
  return bf16{static_cast<uint16_t>(bits >> 16 | (code & 0x80u) << 8)};
}

constexpr int kCodes = 8;

__global__ void __launch_bounds__(kThreads) widen_kernel(bool is_e5m2, int64_t n, bool is_packed, const uint8_t* codes, bf16* to) {
  const int drop = is_e5m2 ? 21 : 20;
  const float scale = is_e5m2 ? 0x1p112f : 0x1p120f;
  const uint32_t first_special = is_e5m2 ? 0x7c : 0x7f, infinity = is_e5m2 ? 0x7c : 0xff;
  const int64_t step = int64_t{gridDim.x} * kThreads, thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t packs = is_packed ? n / kCodes : 0;
  for (int64_t i = thread; i < packs; i += step) {
    const Pack<uint8_t, kCodes> from = load<kCodes>(codes + i * kCodes);
    Pack<bf16, kCodes> pack;
#pragma unroll
    for (int k = 0; k < kCodes; ++k) pack.value[k] = widened(from.value[k], drop, scale, first_special, infinity);
    store<kCodes>(to + i * kCodes, pack);
  }
  for (int64_t i = packs * kCodes + thread; i < n; i += step)
    to[i] = widened(codes[i], drop, scale, first_special, infinity);
}

}  // namespace

int64_t max_abs_workspace(int64_t n) {
  const int64_t blocks = blocks_of(n);
  return blocks == 1 ? 0 : blocks * static_cast<int64_t>(sizeof(uint32_t));
}

template <typename T>
void max_abs(int64_t n, const T* x, float* result, void* workspace, cudaStream_t stream) {
  const unsigned blocks = blocks_of(n);
  uint32_t* partials = static_cast<uint32_t*>(workspace);
  launch(are_aligned(16, x) ? max_abs_kernel<T, kPackSize<T>> : max_abs_kernel<T, 1>, dim3(blocks), dim3(kThreads), 0,
         stream, n, x, partials, result);
  if (blocks > 1) launch(partials_kernel, dim3(1), dim3(kThreads), 0, stream, int64_t{blocks}, partials, result);
}

template void max_abs(int64_t, const float*, float*, void*, cudaStream_t);
template void max_abs(int64_t, const bf16*, float*, void*, cudaStream_t);

void widen_f8(bool is_e5m2, int64_t n, const uint8_t* codes, bf16* to, cudaStream_t stream) {
  if (n == 0) return;
  launch(widen_kernel, dim3(blocks_for(n, kThreads * kCodes, 4096)), dim3(kThreads), 0, stream, is_e5m2, n,
         are_aligned(8, codes) && are_aligned(16, to), codes, to);
}

}  // namespace tessera::cuda
