// The machine instructions that kernels use beside CUDA C++, one function each, named as PTX names them.
// Nothing else in kernels/cuda holds inline assembly; a stand-in with the same functions lets all kernels run
// on a CPU in tests.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// cvt.rn.bf16x2.f32: `low` in the low half.
__device__ __forceinline__ uint32_t pack_bf16x2(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// ex2.approx.ftz.f32: 2^x within 2 ulp; results below the normal numbers are zeros.
__device__ __forceinline__ float exp2_approx(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// max.NaN.f32: NaN where either is, unlike fmaxf.
__device__ __forceinline__ float max_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

}  // namespace tessera::cuda
