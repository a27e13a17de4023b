// What a backend hands to its kernels and communicators as `stream`.
#pragma once

#include <cuda_runtime.h>

namespace tessera::cuda {

class MatmulLibrary;  // kernels/cuda/matmul/matmul_library.h
class KernelCompiler;  // kernels/cuda/fusion/kernel_compiler.h

struct Context {
  int device = 0;
  int multiprocessors = 0;
  int major = 0, minor = 0;  // compute capability
  bool tf32 = false;
  cudaStream_t stream = nullptr;  // the compute stream
  MatmulLibrary* matmul = nullptr;
  KernelCompiler* compiler = nullptr;
};

inline Context& context_of(void* stream) { return *static_cast<Context*>(stream); }

}  // namespace tessera::cuda
