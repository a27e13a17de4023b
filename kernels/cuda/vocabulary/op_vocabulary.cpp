#include "kernels/cuda/op_support.h"
#include "kernels/cuda/register.h"

namespace tessera::cuda {

void register_vocabulary(KernelTable& /*table*/) {}

}  // namespace tessera::cuda
