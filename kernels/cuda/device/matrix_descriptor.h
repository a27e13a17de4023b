// Descriptors of matrices in shared memory, as warpgroup products (wgmma.h) want them. PTX ISA, "Asynchronous
// Warpgroup Level Matrix Shared Memory Layout: Strides, Matrix Descriptor Format".
//
// A tile of bf16 with 64 columns is an array of rows of 128 bytes, aligned to 1024 bytes, in which piece p (16
// bytes) of row r lies at place p ^ r % 8; wider tiles are several such panels, one behind the other. Copies by
// tensor maps (tensor_map.h) write it so; accesses of all kinds are free of bank conflicts.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/shared_address.h"

namespace tessera::cuda {

inline constexpr int kPanelColumns = 64, kPanelRowBytes = 128;

// Bits 0-13 the address, 16-29 the leading and 32-45 the stride dimension's byte offset, all without their low four
// bits; 62-63 the swizzling mode, where 1 is 128 bytes.
__device__ __forceinline__ uint64_t matrix_descriptor(const void* at, int leading_bytes, int stride_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | uint64_t(stride_bytes >> 4) << 32 | uint64_t(leading_bytes >> 4) << 16 |
         (shared_address(at) & 0x3ffff) >> 4;
}

// The product sums over the tile's columns: eight rows further is the stride's offset, the leading one is not used.
// Column 16 i is advance(descriptor, 32 i) in a panel.
__device__ __forceinline__ uint64_t columns_descriptor(const void* tile) {
  return matrix_descriptor(tile, 16, 8 * kPanelRowBytes);
}
// The product sums over its rows (a transposed operand): eight rows further is the stride's offset, 64 columns
// further, the next panel, the leading one. Row 16 i is advance(descriptor, 16 i kPanelRowBytes).
__device__ __forceinline__ uint64_t rows_descriptor(const void* tile, int panel_bytes) {
  return matrix_descriptor(tile, panel_bytes, 8 * kPanelRowBytes);
}

__device__ __forceinline__ uint64_t advance(uint64_t descriptor, int bytes) {
  return descriptor + static_cast<uint64_t>(bytes >> 4);
}

}  // namespace tessera::cuda
