// The sum of squares of a tensor, for global gradient norms.
//
// Floor: memory, one read. Sums are f64 inside, so that the norm of 10^9 elements keeps f32
// accuracy.
#pragma once

#include <cstdint>

#include "core/types/narrow_float.h"

namespace tessera::cpu {

int64_t sum_of_squares_workspace(int64_t n);

// T is float, bfloat16 or double.
template <typename T>
double sum_of_squares(int64_t n, const T* x, void* workspace);

}  // namespace tessera::cpu
