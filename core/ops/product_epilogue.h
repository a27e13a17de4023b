// Products that do what comes next while the result is still in registers: add a bias, apply GELU or its
// gradient, sum a bias' gradient. Made by the pass fuse_product_epilogues, after localize, where a kernel takes
// them; models and autodiff write the ops that they stand for.
//
// GELU is its tanh form throughout. What the product gives is not rounded before the epilogue; every result is
// rounded once. None takes batch dims. `bias` and `sums` have the free dims of rhs, the last dims of the product.
//
// The gradient of a bias comes from the product that makes the gradient of its weights, not from the one that
// makes dx: that one's results are as narrow as dx, and the gradient of a bias is f32 in a bf16 program too.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// dot_general_bias{attributes of dot_general}(lhs, rhs, bias) -> dot_general(lhs, rhs) + bias
extern const OpDef kDotGeneralBias;

// dot_general_bias_gelu{...}(lhs, rhs, bias) -> gelu(x), x = dot_general(lhs, rhs) + bias
// x is the second result: the gradient reads it as it was rounded.
extern const OpDef kDotGeneralBiasGelu;

// dot_general_gelu_grad{...}(lhs, rhs, x) -> gelu_grad(x, dot_general(lhs, rhs)), of x's type
extern const OpDef kDotGeneralGeluGrad;

// dot_general_bias_grad{...}(lhs, rhs, acc?) -> (acc +) dot_general(lhs, rhs), sums of rhs over the contracted dims
// Both are of the product's type: floats only. The first result may lie over acc.
extern const OpDef kDotGeneralBiasGrad;

}  // namespace tessera::ops
