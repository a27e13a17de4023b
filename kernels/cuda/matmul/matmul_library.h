// cuBLASLt: one handle and its workspace, and the algorithm of each product.
#pragma once

#include "kernels/cuda/backend/context.h"

namespace tessera::cuda {

class MatmulLibrary {
 public:
  explicit MatmulLibrary(const Context& context) : context_(context) {}

 private:
  const Context& context_;
};

}  // namespace tessera::cuda
