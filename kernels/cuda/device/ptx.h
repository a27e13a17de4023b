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

}  // namespace tessera::cuda
