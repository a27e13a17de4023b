// Sorting 64-bit keys on the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// Ascending, in place; `count` is a power of two.
void sort_keys(uint64_t* keys, int64_t count, cudaStream_t stream);

}  // namespace tessera::cuda
