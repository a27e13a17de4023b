// The largest absolute value of a tensor (core/ops/max_abs.h).
//
// Floor: memory, one read. Compared as integers: the bits of non-negative floats are in the order of their values,
// infinity behind all of them and NaN behind that.
#pragma once

#include <cstdint>

#include "core/types/narrow_float.h"

namespace tessera::cpu {

int64_t max_abs_workspace(int64_t n);

// T is float, bfloat16 or double.
template <typename T>
T max_abs(int64_t n, const T* x, void* workspace);

}  // namespace tessera::cpu
