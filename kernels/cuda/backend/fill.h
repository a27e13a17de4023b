// The same element all over a buffer.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// `element_bytes` is 1, 2, 4 or 8; the low bytes of `element` are the element. `to` is aligned to it.
void fill(void* to, uint64_t element, int64_t element_bytes, int64_t count, cudaStream_t stream);

}  // namespace tessera::cuda
