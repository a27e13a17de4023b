// Kernels that are generated and compiled at start-up by NVRTC, all of a program's in one go.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/backend/context.h"
#include "kernels/cuda/fusion/kernel_cache.h"

namespace tessera::cuda {

// For one backend: its methods are called by one thread at a time.
class KernelCompiler {
 public:
  // `cache_folder` as in BackendOptions.
  KernelCompiler(const Context& context, std::string cache_folder);
  ~KernelCompiler();
  KernelCompiler(const KernelCompiler&) = delete;
  KernelCompiler& operator=(const KernelCompiler&) = delete;

  // The kernel `name`, which is extern "C" in `text`, is there after the next compile_pending(). The prelude stands
  // before it. A name always comes with the same text.
  void add(const std::string& name, const std::string& text);
  // Compiles what was added, or finds it compiled in the cache, and loads it. Throws InternalError with NVRTC's log
  // and the kernel it complains about.
  void compile_pending();
  // Submits the kernel. `argument` is its only one, as it lies in memory.
  void launch(const std::string& name, unsigned blocks, unsigned threads, void* argument) const;

 private:
  struct Loaded {
    std::string text;
    cudaKernel_t kernel = nullptr;
  };
  bool load(const std::string& image, bool is_certain);

  const Context& context_;
  KernelCache cache_;
  std::map<std::string, std::string> pending_;  // name -> text
  std::map<std::string, Loaded> kernels_;
  std::vector<cudaLibrary_t> libraries_;
};

}  // namespace tessera::cuda
