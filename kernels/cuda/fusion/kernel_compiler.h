// Kernels that are generated and compiled at start-up by NVRTC, all of a program's in one go.
#pragma once

#include <string>

#include "kernels/cuda/backend/context.h"

namespace tessera::cuda {

class KernelCompiler {
 public:
  KernelCompiler(const Context& context, std::string cache_folder)
      : context_(context), cache_folder_(std::move(cache_folder)) {}
  void compile_pending() {}

 private:
  const Context& context_;
  std::string cache_folder_;
};

}  // namespace tessera::cuda
