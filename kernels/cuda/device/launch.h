// Launching a kernel, and its dynamic shared memory. With ptx.h all that kernels need beside plain CUDA C++.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {

// The block's dynamic shared memory, aligned to 128 bytes.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char tessera_dynamic_shared[];
  return reinterpret_cast<T*>(tessera_dynamic_shared);
}

// Submits kernel<<<grid, threads, shared_bytes, stream>>>(args...). Throws UserError where the launch is
// refused. More than 48 KB of shared memory are asked for as the device wants it.
template <typename... Parameters, typename... Args>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, int64_t shared_bytes,
            cudaStream_t stream, Args&&... args) {
  if (shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "a kernel's shared memory");
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Args>(args))...), "a kernel's launch");
}

}  // namespace tessera::cuda
