// reduce with several operands, initial values and a combiner region; argmax and argmin.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// reduce{dimensions, combiner}(xs..., inits...) -> one result per x. The combiner takes
// (accumulators..., elements...) and must be associative; the initial values count once, whatever
// the sharding.
std::vector<Value> reduce(Builder& b, std::vector<Value> xs, std::vector<Value> inits,
                          Ints dimensions, GraphRef combiner);

// The largest (or smallest) element along `dimension` and its index, s32; of equals the first.
// NaN counts as the largest and the smallest.
struct Extreme {
  Value values, indices;
};
Extreme argmax(Builder& b, Value x, int64_t dimension);
Extreme argmin(Builder& b, Value x, int64_t dimension);

// Of a region f over N values the region over N values and whether there are any (pred): f where
// both sides have some, else the side that has. Its identity is (anything, false), so that padding
// and empty shards fall out for every f.
GraphRef with_validity(const GraphRef& region);

// The region of argmax (or argmin) over (value, index).
GraphRef extreme_region(DType dtype, bool largest);

}  // namespace tessera::ops
