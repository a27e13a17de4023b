// Elements moved apart and a value around and between them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

constexpr int kMaxPadRank = 8;

// Per dim of the result, outermost first: element i of it is element (i - low) / step of the source where that
// is a whole number in [0, extent), else the value.
struct PadShape {
  int rank = 1;
  int64_t size[kMaxPadRank] = {1};
  int64_t extent[kMaxPadRank] = {1};
  int64_t low[kMaxPadRank] = {};
  int64_t step[kMaxPadRank] = {1, 1, 1, 1, 1, 1, 1, 1};
  int64_t from[kMaxPadRank] = {1};  // stride in the source
};

// Elements of `bytes` (1, 2, 4 or 8), `pack` at a time: 1, or 16 / bytes, where sizes, strides and low of the
// innermost dim count packs and its step is 1. `value` is in device memory; null: zero.
void pad(int bytes, int pack, const PadShape& shape, const void* from, const void* value, void* to,
         cudaStream_t stream);

}  // namespace tessera::cuda
