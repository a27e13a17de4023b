// Random values as a pure function of (seed, site, global index), see philox.h.
#pragma once

#include "core/ir/builder.h"

namespace tessera::ops {

// random_uniform{seed, seed_site, shape, dtype, strides?}(start per dim of size > 1, all or none)
//   -> [0, 1) floats, with as many random bits as the dtype has precision.
// The counter of an element is sum over dims of (start + index) * strides, where `strides` are the
// row-major strides of the whole tensor: given by localize, computed from `shape` where absent.
extern const OpDef kRandomUniform;
Value random_uniform(Builder& b, TensorType type, int64_t seed, int64_t seed_site);

// For kernels of random_uniform: the strides of the whole tensor, what one step of each start operand adds to
// the counter, and the random bits in an element.
// `strides_of_starts` says the same of any op with starts for the dims whose size is above 1 (or none).
Ints strides_of_starts(const Ints& strides, size_t starts);
Ints random_strides(const OpCall& call);
Ints random_start_strides(const OpCall& call);
int random_precision(DType dtype);

}  // namespace tessera::ops
