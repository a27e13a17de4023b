// What kernels say to the host while they run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// %globaltimer: nanoseconds since 1970 by the device's clock, in steps of up to a microsecond.
__device__ __forceinline__ uint64_t global_nanoseconds() {
  uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

// st.release.sys: who sees `value` (the host, in pinned memory) sees what was stored before.
__device__ __forceinline__ void store_release_system(uint64_t* to, uint64_t value) {
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

}  // namespace tessera::cuda
