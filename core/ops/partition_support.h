// What the `partition` functions of ops share: collectives on local shapes, positions, masks.
// Private to core/ops. All values are those of one device (core/ir/partition_context.h).
#pragma once

#include "core/ops/halo.h"
#include "core/ops/structure.h"

namespace tessera::ops {

// Collectives that state their local result shape, as after localize. With no axes: x itself.
Value local_all_gather(Builder& b, Value x, int64_t dimension, const AxisList& axes);
Value local_all_reduce(Builder& b, Value x, const AxisList& axes, ReduceKind kind);
Value local_all_slice(Builder& b, Value x, int64_t dimension, const AxisList& axes);

// s64[]: the global index of the first element of this device's shard; 0 where it is not cut.
Value local_start(Builder& b, const CutDim& cut);
// `index`, an integer of any type and shape, as s64 clamped to [low, high].
Value clamped_index(Builder& b, Value index, int64_t low, int64_t high);
// `index` as s64; what does not fit (u64) becomes the largest s64.
Value as_s64(Builder& b, Value index);

// pred of `shape`: whether low <= the position along `dim` < high, both s64[].
Value position_mask(Builder& b, const Shape& shape, int dim, Value low, Value high);
// Element i along `dim` of the result is element i + delta of x where that exists, else `fill`
// (a scalar). delta is s64[] and is clamped: further away there is nothing but fill.
Value shifted_window(Builder& b, Value x, int dim, Value delta, int64_t size, Value fill);

}  // namespace tessera::ops
