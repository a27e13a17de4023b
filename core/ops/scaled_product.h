// Products of f8 operands times two scalars, as matrix units take them: what dot_general_fp8
// (core/ops/fp8_product.h) comes to where the device's library scales the sums while they are in registers. Made after
// localize by the passes fuse_product_scales, accumulate_products and fuse_product_epilogues; composites and their
// expansion write the ops that it stands for.
//
// lhs and rhs are f8, without batch dims; the scales are f32 scalars; bias is of the result's type and has the free
// dims of rhs, the last dims of the result. What there is beside the products is of the result's type, and every
// result is rounded once.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// scaled_dot_general{attributes of dot_general}(lhs, rhs, lhs_scale, rhs_scale, bias?)
//   -> dot_general(lhs, rhs) * lhs_scale * rhs_scale (+ bias), of `dtype`
extern const OpDef kScaledDotGeneral;

// scaled_dot_general_gelu{...}(lhs, rhs, lhs_scale, rhs_scale, bias) -> gelu(x), x = scaled_dot_general(...)
// GELU in its tanh form. x is the second result: the gradient reads it as it was rounded.
extern const OpDef kScaledDotGeneralGelu;

// scaled_dot_general_add{...}(lhs, rhs, lhs_scale, rhs_scale, acc) -> acc + scaled_dot_general(...)
// The result may lie over acc.
extern const OpDef kScaledDotGeneralAdd;

}  // namespace tessera::ops
