// Reductions whose order is fixed: sources[0] + sources[1] + ..., element by element.
//
// Floating-point sums depend on their order; with one order everywhere a collective's result is
// bitwise the same on all ranks, in every run and however the work is divided.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/types/dtype.h"
#include "core/types/reduce_kind.h"

namespace tessera {

// Combines `count` elements of every source, in order, and writes the result to every destination.
// A destination may be one of the sources (the same pointer), else they must not overlap. Floats
// narrower than f32 accumulate in f32 and are rounded once. On pred, sum and max are `or`, product
// and min are `and`; logical kinds are bitwise on integers and InternalError on floats, and so are
// max and min on c64. max and min give NaN where any source is NaN.
void ordered_reduce(std::span<const std::byte* const> sources,
                    std::span<std::byte* const> destinations, int64_t count, DType dtype,
                    ReduceKind kind);

// InternalError where `kind` has no meaning on `dtype`.
void check_reducible(DType dtype, ReduceKind kind);

// Between a narrow float (or f32 itself) and the f32 that partial sums travel in.
void widen_to_f32(float* to, const std::byte* from, int64_t count, DType dtype);
void round_from_f32(std::byte* to, const float* from, int64_t count, DType dtype);

// What a sum of `dtype` accumulates in: f32 for narrower floats, else `dtype` itself.
DType accumulator_of(DType dtype);

}  // namespace tessera
