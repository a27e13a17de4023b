// Blocks of a tensor in the order in which a collective sends or receives them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

// `from` is [a, b] runs of `run_bytes`, `to` becomes [b, a] of them. To pack what goes to n ranks: a are the
// rows of the dims before the one that is split, b = n; to put what came from n ranks side by side: a = n, b are
// the rows of the dims before. The buffers must not overlap.
void swap_blocks(void* to, const void* from, int64_t a, int64_t b, int64_t run_bytes, cudaStream_t stream);

}  // namespace tessera::cuda
