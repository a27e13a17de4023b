// Positions that only the device knows, read by every thread that needs them.
#pragma once

#include "kernels/cuda/movement/strided_copy.h"

namespace tessera::cuda {

// Beyond every tensor, and sums with positions do not overflow.
constexpr int64_t kFarIndex = int64_t{1} << 60;

// Integer number `at` of `bytes`, limited to +-kFarIndex.
__device__ __forceinline__ int64_t load_index(const void* from, int64_t at, int bytes, bool is_signed) {
  int64_t value;
  switch (bytes) {
    case 1: value = is_signed ? static_cast<const int8_t*>(from)[at] : static_cast<const uint8_t*>(from)[at]; break;
    case 2: value = is_signed ? static_cast<const int16_t*>(from)[at] : static_cast<const uint16_t*>(from)[at]; break;
    case 4:
      value = is_signed ? int64_t{static_cast<const int32_t*>(from)[at]} : int64_t{static_cast<const uint32_t*>(from)[at]};
      break;
    default: {
      value = static_cast<const int64_t*>(from)[at];
      if (!is_signed && value < 0) value = kFarIndex;
    }
  }
  return value < -kFarIndex ? -kFarIndex : value > kFarIndex ? kFarIndex : value;
}

__device__ __forceinline__ int64_t start_of(const DeviceStarts& starts) {
  int64_t moved = 0;
  for (int i = 0; i < starts.count; ++i) {
    const int64_t start = load_index(starts.start[i], 0, starts.bytes, starts.is_signed);
    moved += (start < 0 ? 0 : start > starts.last[i] ? starts.last[i] : start) * starts.stride[i];
  }
  return moved;
}

}  // namespace tessera::cuda
