// Copies of strided views to dense memory: transpose, broadcast, slice and reverse are all this.
//
// Floor: memory, each element read and written once. Where source and destination run along
// different dims, 16 x 16 blocks go through registers, so that both sides see whole cache lines.
#pragma once

#include <cstdint>
#include <span>

namespace tessera::cpu {

// to[dense index of p] = from[sum of p[d] * strides[d]] for all p in dims. Strides are in elements,
// may be 0 or negative. Elements are 1, 2, 4 or 8 bytes. The memories must not overlap.
void strided_copy(int64_t element_bytes, std::span<const int64_t> dims,
                  std::span<const int64_t> strides, const void* from, void* to);

}  // namespace tessera::cpu
