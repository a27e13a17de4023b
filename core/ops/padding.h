// The two ops that exist for padding alone. Both leave the logical tensor as it is.
#pragma once

#include "core/ir/builder.h"
#include "core/ir/padding.h"

namespace tessera::ops {

// resize_padding{dimensions?}(x): the same tensor, stored in other extents (ResultInfo::padded_shape
// says which). Along dims that are whole on every device it is a slice or a pad, and what is new is
// zero. `dimensions` are those in shards: each device takes its new stretch from its neighbours
// (core/ops/halo.h), and the padding of the result holds anything.
extern const OpDef kResizePadding;
Value resize_padding(Builder& b, Value x);

// mask_padding{dimensions, limit_indices, scalar}(x, starts...): elements whose global index along
// dimensions[i] is limit_indices[i] or more become `scalar`. One start per dimension, the global
// index of the first element (0 where absent). In place.
extern const OpDef kMaskPadding;
Value mask_padding(Builder& b, Value x, Ints dimensions, Ints limits, double scalar);

}  // namespace tessera::ops
