// A gather of windows as a gather of single elements, so that every device can give those of its shard.
//
//     windows of 3 rows from starts [2, 5]   ->   rows [[2, 3, 4], [5, 6, 7]]
//
// Private to core/ops.
#pragma once

#include "core/ops/index_map.h"

namespace tessera::ops {

struct ElementGather {
  Value indices;  // with a dim for each dim of the operand that is taken so, and the vector dim last
  Attributes attributes;
};

// The same result as gather{attributes}(operand, indices), whose indices (s64) are clamped: the windows
// along the operand dims `dims`, which must be indexed, are taken element by element. `map` is that of
// `attributes`; batch dims of `indices` may be shards.
ElementGather by_elements(Builder& b, Value indices, const IndexMap& map,
                          const Attributes& attributes, const std::vector<int>& dims);

}  // namespace tessera::ops
