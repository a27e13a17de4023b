// Random floats to measure with.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// Fills `count` elements of `element_bytes` (2, 4 or 8) with floats between 1 and 2 of either sign. `one` is the
// bits of 1.0 in their format, `mantissa` has its mantissa's bits set.
void fill_noise(void* to, int64_t element_bytes, uint64_t one, uint64_t mantissa, int64_t count, cudaStream_t stream);

}  // namespace tessera::cuda
