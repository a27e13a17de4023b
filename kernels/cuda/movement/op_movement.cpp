#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {

void register_movement(KernelTable& /*table*/) {}

}  // namespace tessera::cuda
