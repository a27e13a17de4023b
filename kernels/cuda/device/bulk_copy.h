// Copies of boxes of a tensor from device to shared memory by the copy engine of sm_90: one thread asks, and a
// barrier in shared memory counts the bytes that have come. PTX ISA, "cp.async.bulk.tensor", "Tensors" (swizzling
// modes, out of bounds) and "Async proxy".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/barrier.h"
#include "kernels/cuda/device/shared_address.h"
#include "kernels/cuda/device/tensor_map.h"

namespace tessera::cuda {

// The map's box whose first element is (i0, i1, i2, i3), the innermost index first, to `shared`, aligned to 1024
// bytes: row after row, permuted as the map says. What is outside of the tensor becomes zeros, and counts.
__device__ __forceinline__ void copy_box_async(void* shared, const TensorMap* map, int i0, int i1, int i2, int i3,
                                               Mbarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(i0), "r"(i1), "r"(i2), "r"(i3)
      : "memory");
}
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Orders this thread's accesses to shared memory before what matrix units and the copy engine do there behind the
// next barrier. Their own accesses need none once they have been waited for.
__device__ __forceinline__ void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace tessera::cuda
