// Stands in for kernels/cuda/device/launch.h.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/cuda/backend/check.h"

namespace tessera::cuda {

template <typename T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(::soft_gpu::current_block().dynamic_shared);
}

template <typename... Parameters, typename... Args>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, int64_t shared_bytes, cudaStream_t stream,
            Args&&... args) {
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
