// Orders: sort and top_k. Both are stable: of equal elements the one with the lower index is first.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// sort{dimension, is_stable, direction or combiner}(xs...) -> xs..., all permuted alike along
// `dimension`. With `direction` (lt: ascending, gt: descending) the first operand is the key, in
// total order: -NaN, -inf, ..., -0, +0, ..., inf, NaN. A comparator takes (x0, y0, x1, y1, ...) and
// says whether x comes before y.
extern const OpDef kSort;
std::vector<Value> sort(Builder& b, std::vector<Value> xs, int64_t dimension,
                        CompareDirection direction = CompareDirection::lt);

// top_k{k, largest}(x) -> values, indices s32: along the last dim, best first. NaN counts as more
// than infinity, -0 as less than +0.
extern const OpDef kTopK;
struct TopK {
  Value values, indices;
};
TopK top_k(Builder& b, Value x, int64_t k, bool largest = true);

// x[..., indices[...], ...] along `dimension`: all other dims go side by side.
Value take_along(Builder& b, Value x, Value indices, int64_t dimension);

}  // namespace tessera::ops
