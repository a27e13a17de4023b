// Where something lies in shared memory, as instructions and descriptors name it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace tessera::cuda
