// Moves a block between two dense tensors: the geometry of every collective that does not reduce.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/types/shape.h"

namespace tessera {

// A block of `block` elements inside a tensor of shape `tensor`, beginning at `start` (elements per
// dim). copy_block copies the block at `from_start` of `from` to the one at `to_start` of `to`.
// Elements have `element_bytes` bytes. The two blocks must not overlap unless they are the same
// bytes, which is a no-op.
void copy_block(std::byte* to, const Shape& to_shape, std::span<const int64_t> to_start,
                const std::byte* from, const Shape& from_shape, std::span<const int64_t> from_start,
                const Shape& block, int64_t element_bytes);

// The common case of one dim: elements [from_start, from_start + extent) of dim `dim` in `from`
// go to [to_start, ...) of the same dim in `to`; all other dims are whole and equal.
void copy_dim_block(std::byte* to, const Shape& to_shape, int64_t to_start, const std::byte* from,
                    const Shape& from_shape, int64_t from_start, int dim, int64_t extent,
                    int64_t element_bytes);

}  // namespace tessera
