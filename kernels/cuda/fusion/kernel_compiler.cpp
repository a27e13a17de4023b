#include "kernels/cuda/fusion/kernel_compiler.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/backend/check.h"
#include "kernels/cuda/fusion/fusion_source.h"
#include "kernels/cuda/fusion/nvrtc_program.h"

namespace tessera::cuda {

KernelCompiler::KernelCompiler(const Context& context, std::string cache_folder)
    : context_(context), cache_(std::move(cache_folder)) {}

KernelCompiler::~KernelCompiler() {
  for (cudaLibrary_t library : libraries_) (void)cudaLibraryUnload(library);
}

void KernelCompiler::add(const std::string& name, const std::string& text) {
  if (const auto found = kernels_.find(name); found != kernels_.end()) {
    TESSERA_CHECK(found->second.text == text, "two kernels are named ", name);
    return;
  }
  const auto [place, is_new] = pending_.emplace(name, text);
  TESSERA_CHECK(is_new || place->second == text, "two kernels are named ", name);
}

void KernelCompiler::compile_pending() {
  if (pending_.empty()) return;
  // In the order of names, so that the same kernels make the same program.
  std::string source = fusion_prelude();
  for (const auto& [name, text] : pending_) source += cat("#line 1 \"", name, "\"\n", text);
  const NvrtcTarget target = nvrtc_target(context_.major, context_.minor);
  const std::string key = text_hash(cat(target.description, "\n", source)) + text_hash(source);
  bool was_made = false;
  const auto make = [&] {
    was_made = true;
    return compile_program(source, target, pending_);
  };
  std::string image = cache_.find_or_make(key, make);
  // Whole, and yet not what this driver takes: made for another, or by a program that is gone.
  if (!load(image, was_made)) {
    log_warning("CUDA: the kernels in ", cache_.path_of(key), " cannot be loaded, they are compiled anew");
    cache_.forget(key);
    image = cache_.find_or_make(key, make);
    load(image, true);
  }
  log_debug("CUDA: ", pending_.size(), was_made ? " kernels compiled for " : " kernels read from the cache, for ",
            target.description);
  pending_.clear();
}

bool KernelCompiler::load(const std::string& image, bool is_certain) {
  cudaLibrary_t library = nullptr;
  const cudaError_t error = cudaLibraryLoadData(&library, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (error != cudaSuccess && !is_certain) {
    (void)cudaGetLastError();  // the next call must not see it
    return false;
  }
  check(error, "loading compiled kernels");
  libraries_.push_back(library);
  for (auto& [name, text] : pending_) {
    cudaKernel_t kernel = nullptr;
    const cudaError_t missing = cudaLibraryGetKernel(&kernel, library, name.c_str());
    if (missing != cudaSuccess && !is_certain) {
      (void)cudaGetLastError();
      return false;
    }
    check(missing, "finding a compiled kernel");
    // Asking for its attributes loads it now: the first launch may be one that is being captured.
    cudaFuncAttributes attributes = {};
    check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)), "loading a compiled kernel");
    kernels_[name] = {text, kernel};
  }
  return true;
}

void KernelCompiler::launch(const std::string& name, unsigned blocks, unsigned threads, void* argument) const {
  const auto found = kernels_.find(name);
  TESSERA_CHECK(found != kernels_.end(), "the kernel ", name,
                " was not prepared (Kernel::prepare and Backend::finish_preparing come before the first run)");
  void* arguments[] = {argument};
  check(cudaLaunchKernel(reinterpret_cast<const void*>(found->second.kernel), dim3(blocks), dim3(threads), arguments,
                         0, context_.stream),
        "a generated kernel's launch");
}

}  // namespace tessera::cuda
