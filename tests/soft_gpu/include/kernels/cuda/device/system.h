// Stands in for kernels/cuda/device/system.h.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tessera::cuda {

inline uint64_t global_nanoseconds() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count());
}
inline void store_release_system(uint64_t* to, uint64_t value) {
  std::atomic_ref<uint64_t>(*to).store(value, std::memory_order_release);
}

}  // namespace tessera::cuda
