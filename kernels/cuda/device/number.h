// Loading and storing numbers: everything is computed in f32.
#pragma once

#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return bf16{static_cast<uint16_t>(pack_bf16x2(x, 0.0f) & 0xffffu)};
}

}  // namespace tessera::cuda
