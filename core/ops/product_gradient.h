// The gradient of a dot_general's operand, whatever ops make the product: dims and operand order are worked out
// once for dot_general and the products like it.
#pragma once

#include <functional>

#include "core/ops/contraction.h"

namespace tessera::ops {

// Makes the product of the cotangent and the other operand; the cotangent is lhs where `dy_is_lhs`.
using EmitGradientProduct = std::function<Value(Value lhs, Value rhs, const DotDims& dims, bool dy_is_lhs)>;

// The cotangent of one operand is the product of dy with the other operand over that one's free dims. Of the two
// operand orders the one is taken whose result already has the operand's dim order; where neither has, it is
// transposed. The attributes of `c` are those of dot_general.
Value product_gradient(GradContext& c, bool is_lhs, const EmitGradientProduct& emit);

}  // namespace tessera::ops
