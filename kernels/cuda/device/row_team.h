// The threads that share a row of a matrix: a warp, so that short rows need no barrier and several fit a
// block, or the whole block.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/reduce.h"

namespace tessera::cuda {

enum class Team { warp, block };

template <Team kTeam>
class RowTeam {
 public:
  // All threads of the block make one.
  __device__ __forceinline__ RowTeam() {
    if constexpr (kTeam == Team::block) {
      __shared__ float shared[2][kMost][32];
      shared_ = &shared[0][0][0];
    }
  }

  static __device__ __forceinline__ int thread() {
    return static_cast<int>(threadIdx.x) % (kTeam == Team::warp ? 32 : 1024);
  }
  static __device__ __forceinline__ int threads() { return kTeam == Team::warp ? 32 : static_cast<int>(blockDim.x); }
  // Which team of the block this is, of how many.
  static __device__ __forceinline__ int index() { return kTeam == Team::warp ? static_cast<int>(threadIdx.x) / 32 : 0; }
  static __device__ __forceinline__ int teams() { return kTeam == Team::warp ? static_cast<int>(blockDim.x) / 32 : 1; }
  // A team's rows where the whole grid walks over them.
  static __device__ __forceinline__ int64_t first_row() { return int64_t{blockIdx.x} * teams() + index(); }
  static __device__ __forceinline__ int64_t row_step() { return int64_t{gridDim.x} * teams(); }

  // Each of the values over the team's threads, which all get the results, in an order fixed by their number.
  // Two buffers take turns: a buffer is written again only after a barrier that follows its last reads.
  template <int kCount, typename Combine>
  __device__ __forceinline__ void reduce(float (&values)[kCount], Combine combine) {
    static_assert(kCount <= kMost);
#pragma unroll
    for (int c = 0; c < kCount; ++c) values[c] = warp_reduce(values[c], combine);
    if constexpr (kTeam == Team::block) {
      const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32,
                warps = static_cast<int>(blockDim.x) / 32;
      float* buffer = shared_ + turn_ * kMost * 32;
      turn_ ^= 1;
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        if (lane == 0) buffer[c * 32 + warp] = values[c];
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kCount; ++c)
        values[c] = warp_reduce(lane < warps ? buffer[c * 32 + lane] : Combine::identity(), combine);
    }
  }
  template <typename Combine>
  __device__ __forceinline__ float reduce(float value, Combine combine) {
    float values[1] = {value};
    reduce(values, combine);
    return values[0];
  }

 private:
  static constexpr int kMost = 2;  // values that are reduced at once
  float* shared_ = nullptr;
  int turn_ = 0;
};

}  // namespace tessera::cuda
