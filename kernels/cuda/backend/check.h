// CUDA's error codes become errors of ours. Thin: device code includes it.
#pragma once

#include <cuda_runtime.h>

namespace tessera::cuda {

// Throws UserError "CUDA: WHAT: TEXT (NAME)" where the call failed; a fault on the device (an illegal address)
// leaves the context unusable, and says so.
[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what);
inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw_cuda_error(error, what);
}

}  // namespace tessera::cuda
