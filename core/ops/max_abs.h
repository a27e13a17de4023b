// The largest absolute value of a tensor: what a scale per tensor is chosen from (core/ops/fp8_product.h).
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// max_abs(x) -> scalar, f32 or (of f64) f64: max |x[i]|, exact; 0 of an empty tensor, NaN where x has one. On shards
// it is partial, of kind max. It has no gradient on purpose: scales are constants to who differentiates.
extern const OpDef kMaxAbs;
Value max_abs(Builder& b, Value x);

}  // namespace tessera::ops
