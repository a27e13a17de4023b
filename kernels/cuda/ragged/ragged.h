// Products of rows in groups, each group with a matrix of its own (core/ops/ragged.h), where the groups' sizes
// are known to the device alone.
//
// A step must not wait for the device, and a captured graph has fixed grids, so a small kernel turns the sizes
// into where groups begin, in rows and in tiles, and the product's blocks walk over the tiles of all groups.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/number.h"

namespace tessera::cuda {

enum class RaggedKind : int {
  by_rows,      // result [m, n] = a [m, k] b [group, k, n]
  by_columns,   // result [m, n] = a [m, k] b [group, n, k] transposed
  contraction,  // result [group, k, n] = a [m, k] transposed, b [m, n]
};

struct RaggedShape {
  RaggedKind kind = RaggedKind::by_rows;
  int64_t m = 0, k = 0, n = 0;
  int groups = 0;
};

// [groups + 3] each, in device memory: the first row of every group, and how many tiles of rows all before it have.
// Before group 0, at 0, stand the rows before it and behind the last one, at groups + 1, those behind it: rows that
// this device has no matrix for. At groups + 2 stands where these end.
struct RaggedGroups {
  int64_t *starts = nullptr, *tiles = nullptr;
};

// What a launch needs beside the operands.
struct RaggedRun {
  RaggedShape shape;
  const int32_t* sizes = nullptr;  // [size_count]; negative ones count as 0, rows from m on do not exist
  int64_t size_count = 0;
  const int64_t* start = nullptr;  // the size that is group 0's, in device memory; null: 0
  void* workspace = nullptr;
  int multiprocessors = 1;
  bool is_wide = false;  // the result is f32 whatever the operands are
};

int64_t ragged_workspace(int64_t groups);
// Fills the workspace for tiles of `tile_rows` rows.
RaggedGroups find_groups(const RaggedRun& run, int tile_rows, cudaStream_t stream);

// On tensor cores; k and n are multiples of 8 and all addresses of 16 bytes.
void ragged_tensor_product(const RaggedRun& run, const bf16* a, const bf16* b, void* result, cudaStream_t stream);
// Any shape, by multiplications and additions in f32. Instances: float, bf16.
template <typename T>
void ragged_plain_product(const RaggedRun& run, const T* a, const T* b, void* result, cudaStream_t stream);

}  // namespace tessera::cuda
