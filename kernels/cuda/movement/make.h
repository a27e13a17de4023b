// Memory made from nothing: constants, positions, and numbers over padding.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// `count` elements of `bytes` (1, 2, 4 or 8), the low bytes of `bits`. For large buffers too.
void fill_elements(int bytes, uint64_t bits, int64_t count, void* to, cudaStream_t stream);

// A few host bytes, taken when this is called: they travel with the launch, so that a recording keeps them.
constexpr int64_t kMaxTableBytes = 1 << 16;
void write_table(const void* host, int64_t bytes, void* to, cudaStream_t stream);

// to[o, i, k] of [outer, size, inner] = start + i, where *start is in device memory (null: 0).
// T is an unsigned integer (signed ones have the same bits), float, double or bf16.
template <typename T>
void iota(int64_t outer, int64_t size, int64_t inner, const int64_t* start, T* to, cudaStream_t stream);

// Of [outer, size, inner] elements of `bytes` those with a global index of `limit` or more become `bits`;
// element i has the global index *start + i (start in device memory; null: 0).
void mask_from(int bytes, int64_t outer, int64_t size, int64_t inner, const int64_t* start, int64_t limit,
               uint64_t bits, void* to, int multiprocessors, cudaStream_t stream);

}  // namespace tessera::cuda
