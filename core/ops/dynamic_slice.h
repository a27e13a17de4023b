// Slices at positions that are known only at run time. Their starts are scalars, one per dim, all
// of one integer type; as in StableHLO they are clamped so that the whole slice lies inside.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// dynamic_slice{slice_sizes}(x, starts...) -> x[start : start + slice_sizes]
extern const OpDef kDynamicSlice;
Value dynamic_slice(Builder& b, Value x, std::vector<Value> starts, Ints sizes);
// Along one dim, from `start` (a scalar of any integer type); all of the others.
Value dynamic_slice_dim(Builder& b, Value x, int64_t dimension, Value start, int64_t size);

// dynamic_update_slice(x, update, starts...) -> x with x[start : start + size of update] = update
extern const OpDef kDynamicUpdateSlice;
Value dynamic_update_slice(Builder& b, Value x, Value update, std::vector<Value> starts);
Value dynamic_update_slice_dim(Builder& b, Value x, Value update, int64_t dimension, Value start);

}  // namespace tessera::ops
