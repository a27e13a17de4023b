// Barriers for parts of a block that do different things: the named ones of sm_80, and those in shared memory that
// also count bytes of asynchronous copies (mbarrier; its transactions need sm_90). Named as PTX names them; PTX ISA,
// "Parallel Synchronization and Communication Instructions: bar, barrier" and "mbarrier".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/shared_address.h"

namespace tessera::cuda {

// ---- Named barriers: `id` 1 to 15 (0 is __syncthreads), `threads` who sync or arrive, whole warps ---------------

// Waits until all are there.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Only says that it is there.
__device__ __forceinline__ void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- Barriers in shared memory ---------------------------------------------------------------------------------

// Goes through phases 0, 1, 0, ...: a phase ends when as many threads have arrived as init said, and as many bytes
// have been copied as were expected.
struct alignas(8) Mbarrier {
  uint64_t state;
};

// By one thread. Others, and copies, may use it behind mbarrier_init_fence() of that thread and a __syncthreads().
__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// What this thread wrote before is seen by those who have waited for the phase.
__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and makes the phase wait for `bytes` of copies.
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

// Waits for the end of the last phase of this parity: 0 for the first one. Before its first phase has ended a
// barrier counts as having ended one of parity 1.
__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, int parity) {
  const uint32_t address = shared_address(barrier);
  uint32_t done;
  do {
    asm volatile(
        "{\n\t"
        ".reg .pred ended;\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, ended;\n\t"
        "}"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  } while (done == 0);
}

}  // namespace tessera::cuda
