// Dropout (Srivastava et al. 2014) without a mask in memory: bits are a function of the place alone.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// dropout{rate, seed, seed_site, strides?}(x, step, row, start per dim of size > 1, all or none)
//   -> like x; elements are 0 with probability `rate`, the others are x / (1 - rate).
// `step` and `row` are s64 scalars; the first dim of x begins at row `row` of what the draw counts (a
// microbatch in its batch). Element i of the whole tensor is kept where step_bits_of(seed, seed_site,
// step, i) of core/ops/philox.h is not below dropout_threshold(rate): the rate is a multiple of 2^-16,
// and the scale is that of the rate as rounded, so that the mean is exact. `strides` are the row-major
// strides of the whole tensor: given by localize, computed from x where absent.
//
// The gradient is the same op on the cotangent; what is computed anew in the backward pass draws the
// same mask.
extern const OpDef kDropout;
struct DropoutOptions {
  double rate = 0;
  int64_t seed = 0, site = 0;
};
Value dropout(Builder& b, Value x, Value step, Value row, const DropoutOptions& options);

// For kernels. Below which of 2^16 draws an element is dropped, and what the others are multiplied by.
uint32_t dropout_threshold(double rate);
double dropout_scale(double rate);
// The strides of the whole tensor, and what one of each start operand (from operand 3 on) adds.
Ints dropout_strides(const OpCall& call);
Ints dropout_start_strides(const OpCall& call);

}  // namespace tessera::ops
