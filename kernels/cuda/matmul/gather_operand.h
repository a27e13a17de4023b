// The dense copy of an operand whose dims make no matrix where it lies.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

inline constexpr int kGatherDims = 8;
struct GatherDims {
  int count = 0;
  int64_t size[kGatherDims] = {};
  int64_t stride[kGatherDims] = {};  // elements of `from`
};

// to[dense index of p] = from[sum of p[d] stride[d]] for elements of 2, 4 or 8 bytes.
void gather_operand(int64_t element_bytes, const GatherDims& dims, const void* from, void* to, cudaStream_t stream);

}  // namespace tessera::cuda
