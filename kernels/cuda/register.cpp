#include "kernels/cuda/register.h"

namespace tessera::cuda {

void register_cuda_kernels(KernelTable& table) {
  register_reference(table);
  register_fusion(table);
  register_elementwise(table);
  register_dot_general(table);
  register_movement(table);
  register_reductions(table);
  register_norms(table);
  register_attention(table);
  register_vocabulary(table);
  register_optimizer(table);
  register_indexing(table);
  register_random(table);
  register_ragged(table);
  register_routing(table);
}

}  // namespace tessera::cuda
