// Reductions over neighbouring dims.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/types/reduce_kind.h"
#include "kernels/cuda/number.h"

namespace tessera::cuda {

// [outer, count, inner] -> [outer, inner]
struct ReduceShape {
  int64_t outer = 1, count = 1, inner = 1;
};

// Bytes for partial results; `accumulator_bytes` is 4, or 8 for s64.
int64_t reduce_workspace(const ReduceShape& shape, int64_t accumulator_bytes);

// out = in reduced by `kind`, each combined with *init (device memory; null: none). Over count 0 the result is
// the identity of `kind`. `workspace` is aligned to 8 bytes.
// float and bf16 in, either out (combined in f32); int32_t and int64_t (sums and products wrap): sum, product,
// max, min. uint8_t, which is pred: logical_and, logical_or.
template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, const Out* init, void* workspace,
            cudaStream_t stream);

}  // namespace tessera::cuda
