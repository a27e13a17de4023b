// Keeps the compiler from working something out earlier than it stands there: what hangs on opaque(x) stays in its
// branch, instead of holding registers through a loop that seldom takes it.
#pragma once

#include <cuda_runtime.h>

namespace tessera::cuda {

// x, of which the compiler knows nothing. No instruction.
__device__ __forceinline__ int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
// The same of what cannot be negative, as divisions and remainders by powers of 2 want it.
__device__ __forceinline__ unsigned opaque(unsigned x) {
  asm volatile("" : "+r"(x));
  return x;
}

}  // namespace tessera::cuda
