// Reductions of f32, also of what lies between the steps of a bf16 reduction.
#include "kernels/cuda/reduction/reduce_kernels.h"

namespace tessera::cuda {

template <typename In, typename Out>
void reduce(ReduceKind kind, const ReduceShape& shape, const In* in, Out* out, const Out* init, void* workspace,
            cudaStream_t stream) {
  reduce_numbers(kind, shape, in, FloatResults::of(out, init), workspace, stream);
}

template void reduce(ReduceKind, const ReduceShape&, const float*, float*, const float*, void*, cudaStream_t);
template void reduce(ReduceKind, const ReduceShape&, const float*, bf16*, const bf16*, void*, cudaStream_t);

template void reduce_partials<ReduceKind::sum>(const ReduceShape&, const float*, FloatResults, cudaStream_t);
template void reduce_partials<ReduceKind::product>(const ReduceShape&, const float*, FloatResults, cudaStream_t);
template void reduce_partials<ReduceKind::max>(const ReduceShape&, const float*, FloatResults, cudaStream_t);
template void reduce_partials<ReduceKind::min>(const ReduceShape&, const float*, FloatResults, cudaStream_t);

}  // namespace tessera::cuda
