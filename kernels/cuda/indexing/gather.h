// Blocks of an operand at positions that are data.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

constexpr int kMaxIndexRank = 8;

// Index vectors in device memory: `components` integers of `bytes`, `component_step` elements apart.
struct IndexVectors {
  const void* indices = nullptr;
  int bytes = 8;
  bool is_signed = true;
  int components = 0;
  int64_t component_step = 1;
};

// Of the result's dims, outermost first, in accesses: the step in the operand and that in the indices. At each
// position the index vector's component k, clamped to [0, last], adds its `stride`.
struct GatherShape {
  int rank = 1;
  int64_t size[kMaxIndexRank] = {1};
  int64_t from[kMaxIndexRank] = {};
  int64_t index[kMaxIndexRank] = {};
  IndexVectors vectors;
  int64_t last[kMaxIndexRank] = {};
  int64_t stride[kMaxIndexRank] = {};
};

// Accesses of `bytes`: 1, 2, 4, 8 or 16.
void gather(int bytes, const GatherShape& shape, const void* from, void* to, cudaStream_t stream);

}  // namespace tessera::cuda
