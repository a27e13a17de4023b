// Reductions of integers and pred, and the workspace of all.
#include "kernels/cuda/reduction/reduce_kernels.h"

namespace tessera::cuda {

int64_t reduce_workspace(const ReduceShape& shape, int64_t accumulator_bytes) {
  if (shape.outer * shape.count * shape.inner == 0) return 0;
  int64_t pieces = 1;  // an unaligned operand is reduced by smaller accesses
  for (int pack = 1; pack <= 16; pack *= 2) pieces = std::max(pieces, plan_reduce(shape, pack, true).pieces);
  return pieces == 1 ? 0 : pieces * shape.outer * shape.inner * accumulator_bytes;
}

template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, const Out* init, void* workspace,
            cudaStream_t stream) {
  if constexpr (std::is_same_v<In, uint8_t>)
    reduce_preds(kind, shape, in, {out, init}, workspace, stream);
  else
    reduce_numbers(kind, shape, in, Results<In>{out, init}, workspace, stream);
}

template void reduce(ReduceKind, const ReduceShape&, const int32_t*, int32_t*, const int32_t*, void*, cudaStream_t);
template void reduce(ReduceKind, const ReduceShape&, const int64_t*, int64_t*, const int64_t*, void*, cudaStream_t);
template void reduce(ReduceKind, const ReduceShape&, const uint8_t*, uint8_t*, const uint8_t*, void*, cudaStream_t);

}  // namespace tessera::cuda
