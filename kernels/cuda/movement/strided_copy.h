// Copies between two strided memories.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

constexpr int kMaxCopyRank = 8;

// Integers in device memory that say where a copy starts.
struct DeviceStarts {
  int count = 0;
  int bytes = 8;           // of each: 1, 2, 4 or 8
  bool is_signed = true;
  bool moves_target = false;  // else the source
  const void* start[kMaxCopyRank] = {};
  int64_t last[kMaxCopyRank] = {};    // start is clamped to [0, last]
  int64_t stride[kMaxCopyRank] = {};  // of its dim
};

// Positions of all dims' ranges, outermost first: at position p the elements are from[sum of p_d from_d] and
// to[sum of p_d to_d]. rank is at least 1, sizes are at least 1.
struct CopyShape {
  int rank = 1;
  int64_t size[kMaxCopyRank] = {1};
  int64_t from[kMaxCopyRank] = {};
  int64_t to[kMaxCopyRank] = {};
};

// Elements of `bytes`: 1, 2, 4, 8 or 16, to which both memories are aligned.
void strided_copy(int bytes, const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                  cudaStream_t stream);

// Each element of `bytes` (1, 2, 4, 8) fills 16 bytes of `to`; shape.to and the strides of starts that move the
// target count those.
void splat_copy(int bytes, const CopyShape& shape, const void* from, void* to, const DeviceStarts& starts,
                cudaStream_t stream);

}  // namespace tessera::cuda
