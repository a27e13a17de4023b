// Sums, maxima, minima and products over dims.
//
// Floor: memory, the input read once. The order of every sum is fixed by the shape: lanes, then
// chunks of rows, then chunks in order.
#pragma once

#include <cstdint>

#include "core/types/reduce_kind.h"
#include "kernels/common/simd.h"

namespace tessera::cpu {

// Any reduction over neighbouring dims is [outer, count, inner] -> [outer, inner].
struct ReduceShape {
  int64_t outer = 1, count = 1, inner = 1;
};

int64_t reduce_workspace(const ReduceShape& shape, int64_t accumulator_bytes);

// In is float, bfloat16 or double; Out is In or its accumulator type. `kind` is sum, max, min or
// product; over count 0 the result is its identity.
template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, void* workspace);

// Integers and pred, without chunks: T is int32_t, int64_t (sum, which wraps, max, min) or bool
// (logical_and, logical_or).
template <typename T>
void reduce_exact(ReduceKind kind, const ReduceShape& shape, const T* in, T* out);

}  // namespace tessera::cpu
