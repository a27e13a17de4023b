// Products of operands that are rounded to 8-bit floats, for the linear layers of a model in training.
//
// After Micikevicius et al. 2022, "FP8 Formats for Deep Learning": weights and activations are rounded to e4m3 (more
// precision), gradients of activations to e5m2 (more range); NVIDIA's Transformer Engine calls that the hybrid recipe.
// Each operand is scaled as a whole by what it holds at that moment ("current scaling"):
//
//     a = max |x|,  r = a rounded to a power of two,  s = r / 2^8 (e4m3) or r / 2^15 (e5m2),  q = f8(x / s)
//     dot_general_fp8(x, w) = (sum of q_x q_w) s_x s_w, sums in f32, rounded once to the result's type
//
// a / s lies between 0.75 and 1.5 times 2^8 (2^15), so nothing exceeds the formats' 448 (57344) and no rounding
// saturates. Scales are powers of two, so that scaling is exact: a value's rounding depends on the others of its tensor
// only where it is subnormal (below 2^-14 a for e4m3, 2^-29 a for e5m2), and computing x / s in f32, bf16 or by an
// inverse gives the same bits on every device.
//
// These are composites that models write and autodiff differentiates. The pass expand_fp8_products
// (core/passes/expand_fp8.h) turns them into primitives before partitioning; as they are they must see whole tensors.
#pragma once

#include <optional>

#include "core/ops/contraction.h"

namespace tessera::ops {

// dot_general_fp8{attributes of dot_general}(lhs, rhs) -> like dot_general: both operands rounded to e4m3. Floats of
// one type of 16 bits or more. Its gradients are the two products below, whatever rounding did taken as the identity.
extern const OpDef kDotGeneralFp8;
Value dot_general_fp8(Builder& b, Value lhs, Value rhs, const DotDims& dims);

// The same, lhs (rhs) rounded to e5m2, for it is a gradient.
extern const OpDef kDotGeneralFp8GradLeft;
extern const OpDef kDotGeneralFp8GradRight;

// What the three ops round their operands to; nothing for other ops.
struct Fp8Formats {
  DType lhs, rhs;
};
std::optional<Fp8Formats> fp8_formats(const OpDef& op);

// max |x| is taken for this much at least, so that scales and their inverses are normal numbers in f32.
inline constexpr double kLeastMaxAbs = 0x1p-100;
// 2^-8 or 2^-15: s / r above.
double fp8_scale_of_power(DType format);

}  // namespace tessera::ops
