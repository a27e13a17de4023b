// Copies from device to shared memory that the copying thread does not wait for (cp.async, sm_80 and later).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// 8 or 16 bytes, both addresses aligned to them. Where not `inside`, zeros are written and `from` is not read.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* from, bool inside) {
  static_assert(kBytes == 8 || kBytes == 16);
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? kBytes : 0;
  if constexpr (kBytes == 16) {  // .cg: past the first-level cache, which shared memory replaces here
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  }
}

// Ends a group: what this thread has asked for since the last one.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kGroups of this thread's groups are still on their way. Other threads' copies need a
// barrier behind their own wait.
template <int kGroups>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace tessera::cuda
