// Products of f8 operands times two scalars, as matrix units take them: what dot_general_fp8
// (core/ops/fp8_product.h) comes to where the device's library scales the sums while they are in registers. Made by
// the pass fuse_product_scales, after localize; composites and their expansion write the ops that it stands for.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// scaled_dot_general{attributes of dot_general}(lhs, rhs, lhs_scale, rhs_scale, bias?)
//   -> dot_general(lhs, rhs) * lhs_scale * rhs_scale (+ bias), rounded once to `dtype`
// lhs and rhs are f8, without batch dims; the scales are f32 scalars; bias is of the result's type and has the free
// dims of rhs, the last dims of the result.
extern const OpDef kScaledDotGeneral;

}  // namespace tessera::ops
