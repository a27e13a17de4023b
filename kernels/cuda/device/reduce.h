// Sums and maxima over a warp or a block, in an order fixed by the shape: the same bits in every run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

struct Sum {
  static __device__ __forceinline__ float identity() { return 0.0f; }
  template <typename T>  // float or double
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  static __device__ __forceinline__ float identity() { return -INFINITY; }
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Over the 32 lanes; all of them get the result and must take part.
template <typename T, typename Combine>
__device__ __forceinline__ T warp_reduce(T x, Combine combine) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}

// Over the block's threads (a multiple of 32, at most 1024), all of which get the result. `shared` has 32
// elements, free to be used again after the next __syncthreads().
template <typename T, typename Combine>
__device__ __forceinline__ T block_reduce(T x, T* shared, Combine combine) {
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32,
            lane = static_cast<int>(threadIdx.x) % 32;
  x = warp_reduce(x, combine);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_reduce(lane < warps ? shared[lane] : T(Combine::identity()), combine);
}

}  // namespace tessera::cuda
