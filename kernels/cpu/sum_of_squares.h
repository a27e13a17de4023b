// The sum of squares of a tensor, for global gradient norms.
//
// Floor: memory, one read. Sums are f64 inside, so that the norm of 10^9 elements keeps f32
// accuracy.
#pragma once

#include <cstdint>
#include <span>

#include "core/types/narrow_float.h"

namespace tessera::cpu {

int64_t sum_of_squares_workspace(int64_t n);

// T is float, bfloat16 or double.
template <typename T>
double sum_of_squares(int64_t n, const T* x, void* workspace);

// The same of many tensors, in one parallel loop: sums[i] with the bits of sum_of_squares of tensor i.
// `workspace` holds that of each, one behind the other.
template <typename T>
struct Squares {
  int64_t n = 0;
  const T* x = nullptr;
};
template <typename T>
void sums_of_squares(std::span<const Squares<T>> tensors, void* workspace, std::span<double> sums);

}  // namespace tessera::cpu
