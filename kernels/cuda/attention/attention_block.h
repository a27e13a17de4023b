// Which part of an attention a thread block computes. Shared by all kernels; what its queries see says
// attention_mask.h.
#pragma once

#include <cstdint>

#include "core/base/error.h"
#include "kernels/cuda/attention/attention.h"

namespace tessera::cuda {

// The `rows` queries of one head that this block computes. Tiles of a head lie side by side, so that blocks that
// run together read the same keys from the second-level cache; the longest rows of a causal mask come first.
struct QueryBlock {
  QueryBlock() = default;
  __device__ QueryBlock(const AttentionShape& shape, int rows) {
    const int tiles = (shape.queries + rows - 1) / rows;
    const int block = static_cast<int>(blockIdx.x), rest = block / tiles;
    row = (tiles - 1 - block % tiles) * rows;
    head = rest % shape.heads;
    batch = rest / shape.heads;
  }
  int batch, head, row;
};

// The `rows` keys of one key head. The first keys are seen by most queries, and come first.
struct KeyBlock {
  KeyBlock() = default;
  __device__ KeyBlock(const AttentionShape& shape, int rows) {
    const int tiles = (shape.keys + rows - 1) / rows;
    const int block = static_cast<int>(blockIdx.x), rest = block / tiles;
    key = block % tiles * rows;
    head = rest % shape.kv_heads;
    batch = rest / shape.kv_heads;
  }
  int batch, head, key;
};

// What is the same in the whole block, put into shared memory and read there whenever it is needed: where a loop leaves
// no registers for what only its rare branches and its end ask for, the compiler would spill. A barrier; once in a
// kernel for each type.
template <typename T>
__device__ __forceinline__ const T& in_shared_memory(const T& value) {
  __shared__ T shared;
  if (threadIdx.x == 0) shared = value;
  __syncthreads();
  return shared;
}

// Elements from the start of a tensor [entries, size] to an entry. Nothing is negative, which makes it one instruction
// without sign extensions that the compiler would keep through a loop.
__device__ __forceinline__ int64_t entry_offset(int entry, int size) {
  return static_cast<int64_t>(uint64_t{static_cast<unsigned>(entry)} * static_cast<unsigned>(size));
}

// Elements from the start of a tensor [batch, length, heads, dim] to a row of a head, and from row to row.
__device__ __forceinline__ int64_t row_offset(int batch, int length, int row, int heads, int head, int dim) {
  return ((int64_t{batch} * length + row) * heads + head) * dim;
}
__device__ __forceinline__ int64_t query_offset(const AttentionShape& s, int batch, int row, int head) {
  return row_offset(batch, s.queries, row, s.heads, head, s.head_dim);
}
__device__ __forceinline__ int64_t key_offset(const AttentionShape& s, int batch, int row, int head) {
  return row_offset(batch, s.keys, row, s.kv_heads, head, s.head_dim);
}
// Of lse and RowStatistics.
__device__ __forceinline__ int64_t statistics_offset(const AttentionShape& s, int batch, int row, int head) {
  return (int64_t{batch} * s.heads + head) * s.queries + row;
}

// Blocks of a kernel over tiles of `rows` queries (keys); 0 where there is nothing to compute.
inline unsigned grid_of(int64_t heads, int64_t length, int rows) {
  const int64_t blocks = heads * ((length + rows - 1) / rows);
  TESSERA_CHECK(blocks < int64_t{1} << 31, "attention needs ", blocks, " blocks");
  return static_cast<unsigned>(blocks);
}
inline unsigned query_grid(const AttentionShape& s, int rows) {
  return grid_of(int64_t{s.batch} * s.heads, s.queries, rows);
}
inline unsigned key_grid(const AttentionShape& s, int rows) {
  return grid_of(int64_t{s.batch} * s.kv_heads, s.keys, rows);
}

}  // namespace tessera::cuda
