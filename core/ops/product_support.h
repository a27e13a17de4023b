// What ops share that are a dot_general and something more: accumulate.h, product_epilogue.h, scaled_product.h.
// `product` is the call of the dot_general alone, with its two operands.
#pragma once

#include <span>
#include <string_view>

#include "core/ir/op_def.h"

namespace tessera::ops {

// Errors begin with the op's name.
TensorType infer_product(std::string_view op, const OpCall& product);
// Of an op that takes no batch dims.
TensorType infer_flat_product(std::string_view op, const OpCall& product);

// What is added to all rows of a product: of its type, with the free dims of rhs, which are its last.
TensorType bias_of(const OpCall& product, const TensorType& result);
void check_bias(std::string_view op, const OpCall& product, const TensorType& result, const TensorType& bias);

// In f64, not rounded; `x` begins with the operands.
HostTensor eval_product(const OpCall& product, std::span<const HostTensor* const> x, const Shape& shape);

// values += added, of the same shape or of their last dims, along the others of which it is repeated.
void add_repeated(HostTensor& values, const HostTensor& added);
// gelu(x) or gelu_grad(x, dy), in its tanh form.
void apply_gelu(const OpDef& op, std::span<const HostTensor* const> operands, HostTensor& result);

// The product's rule with contracted dims whole: what more is done takes the sum.
FactorRule whole_product_factors(const OpCall& product, std::span<const TensorType> results);
// Of a bias under that rule.
TensorFactors bias_factors(const OpCall& product, const FactorRule& rule);

}  // namespace tessera::ops
