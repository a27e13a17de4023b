// Reductions of bf16.
#include "kernels/cuda/reduction/reduce_kernels.h"

namespace tessera::cuda {

template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, const Out* init, void* workspace,
            cudaStream_t stream) {
  reduce_numbers(kind, shape, in, FloatResults::of(out, init), workspace, stream);
}

template void reduce(ReduceKind, const ReduceShape&, const bf16*, bf16*, const bf16*, void*, cudaStream_t);
template void reduce(ReduceKind, const ReduceShape&, const bf16*, float*, const float*, void*, cudaStream_t);

}  // namespace tessera::cuda
