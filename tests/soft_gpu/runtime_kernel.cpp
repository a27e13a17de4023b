// CUDA's runtime: kernels.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "tests/soft_gpu/engine.h"
#include "tests/soft_gpu/library.h"
#include "tests/soft_gpu/memory.h"
#include "tests/soft_gpu/symbols.h"

struct CUlib_st {
  void* handle = nullptr;
  std::map<std::string, CUkern_st*> kernels;
};
struct CUkern_st {
  std::string name;
  void (*thread)(void**) = nullptr;
  std::vector<size_t> sizes;
};

using namespace soft_gpu;

namespace {

struct Functions {
  std::mutex mutex;
  std::map<const void*, int> most_shared;       // as cudaFuncSetAttribute allowed
  std::map<const void*, CUkern_st*> of_library;
  std::map<const void*, long> launches;
};
Functions& functions() {
  static Functions* const kFunctions = new Functions;
  return *kFunctions;
}

int most_shared_of(const void* function) {
  const std::lock_guard lock(functions().mutex);
  const auto found = functions().most_shared.find(function);
  return found == functions().most_shared.end() ? 48 * 1024 : found->second;
}

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* function) {
  const dim3 &grid = config.gridDim, &threads = config.blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  const uint64_t all = uint64_t{threads.x} * threads.y * threads.z;
  if (all == 0 || all > 1024 || threads.x > 1024 || threads.y > 1024 || threads.z > 64)
    return cudaErrorInvalidConfiguration;
  if (config.dynamicSmemBytes > static_cast<size_t>(most_shared_of(function))) return cudaErrorInvalidValue;
  for (unsigned a = 0; a < config.numAttrs; ++a)
    if (config.attrs[a].id == cudaLaunchAttributeClusterDimension || config.attrs[a].id == cudaLaunchAttributeCooperative)
      return cudaErrorNotSupported;
  return cudaSuccess;
}

// A launch that may be replayed.
struct Launch {
  KernelRun run;
  void (*release)(void*) = nullptr;
  ~Launch() { release(run.arguments); }
};

}  // namespace

cudaError_t soft_gpu::submit_kernel(const cudaLaunchConfig_t& config, const void* function,
                                    void (*invoke)(void*), void* arguments, void (*release)(void*)) {
  auto launch = std::make_shared<Launch>();
  launch->run.function = function;
  launch->run.grid = config.gridDim;
  launch->run.threads = config.blockDim;
  launch->run.dynamic_shared_bytes = config.dynamicSmemBytes;
  launch->run.invoke = invoke;
  launch->run.arguments = arguments;
  launch->release = release;
  if (const cudaError_t error = check_launch(config, function); error != cudaSuccess) return remember(error);
  {
    const std::lock_guard lock(functions().mutex);
    ++functions().launches[function];
  }
  const std::lock_guard lock(queue_mutex());
  const cudaStream_t real = resolve(config.stream);
  if (!real) return remember(cudaErrorInvalidResourceHandle);
  // Launches into another device's stream work as on hardware; no stream of another device is ever current.
  launch->run.seed = device_at(real->device).launches.next();
  return remember(submit(real, {"a kernel", [launch] {
                                  run_kernel(launch->run);
                                  ++launch->run.seed;
                                  return true;
                                }}));
}

// For tests that ask which kernels were chosen, by dlsym: launches of kernels whose name holds `part`.
extern "C" long soft_gpu_launches(const char* part) {
  // To look a name up is to read a library's symbols.
  static thread_local std::map<const void*, std::string> names;
  std::map<const void*, long> all;
  {
    const std::lock_guard lock(functions().mutex);
    all = functions().launches;
  }
  long sum = 0;
  for (const auto& [function, launches] : all) {
    const auto [at, is_new] = names.try_emplace(function);
    if (is_new) at->second = function_name(function);
    if (at->second.find(part) != std::string::npos) sum += launches;
  }
  return sum;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, current_device()); error != cudaSuccess)
    return error;
  if (value < 0 || static_cast<size_t>(value) > properties.sharedMemPerBlockOptin)
    return remember(cudaErrorInvalidValue);
  const std::lock_guard lock(functions().mutex);
  functions().most_shared[function] = value;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = most_shared_of(function);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t shared_bytes) {
  if (threads < 1 || threads > 1024) return remember(cudaErrorInvalidValue);
  *blocks = std::min(32, 2048 / ((threads + 31) / 32 * 32));
  if (shared_bytes > 0) *blocks = std::min(*blocks, static_cast<int>(228 * 1024 / (shared_bytes + 1024)));
  return cudaSuccess;
}

// --- Kernels compiled at run time -----------------------------------------------------------------------------

std::string soft_gpu::soft_gpu_path() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&soft_gpu::current_thread), &info) == 0) fail("dladdr");
  return info.dli_fname;
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**, unsigned,
                                cudaLibraryOption*, void**, unsigned) {
  const char* const text = static_cast<const char*>(code);
  const size_t magic = std::strlen(kLibraryMagic);
  if (std::strncmp(text, kLibraryMagic, magic) != 0) return remember(cudaErrorInvalidKernelImage);
  // The object's undefined symbols are looked for here.
  dlopen(soft_gpu_path().c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  void* const handle = dlopen(text + magic, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    std::fprintf(stderr, "soft_gpu: %s\n", dlerror());
    return remember(cudaErrorInvalidKernelImage);
  }
  *library = new CUlib_st{handle, {}};
  return cudaSuccess;
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  if (const auto found = library->kernels.find(name); found != library->kernels.end()) {
    *kernel = found->second;
    return cudaSuccess;
  }
  const std::string base = name;
  auto* const made = new CUkern_st;
  made->name = base;
  made->thread = reinterpret_cast<void (*)(void**)>(dlsym(library->handle, (base + "_soft_thread").c_str()));
  const auto* sizes = static_cast<const size_t*>(dlsym(library->handle, (base + "_soft_parameters").c_str()));
  if (!made->thread || !sizes) {
    delete made;
    return remember(cudaErrorSymbolNotFound);
  }
  for (; *sizes != 0; ++sizes) made->sizes.push_back(*sizes);
  library->kernels[base] = made;
  const std::lock_guard lock(functions().mutex);
  functions().of_library[made] = made;
  *kernel = made;
  return cudaSuccess;
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library) {
  // Launches that wait still need it, as they do on hardware; here they get it: nothing is closed.
  delete library;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  CUkern_st* kernel;
  {
    const std::lock_guard lock(functions().mutex);
    const auto found = functions().of_library.find(function);
    if (found == functions().of_library.end()) return remember(cudaErrorInvalidDeviceFunction);
    kernel = found->second;
  }
  struct Call {
    CUkern_st* kernel;
    std::vector<std::vector<uint64_t>> values;
    std::vector<void*> pointers;
  };
  auto* const call = new Call{kernel, {}, {}};
  for (size_t p = 0; p < kernel->sizes.size(); ++p) {
    call->values.emplace_back((kernel->sizes[p] + 7) / 8);
    std::memcpy(call->values.back().data(), arguments[p], kernel->sizes[p]);
  }
  for (auto& value : call->values) call->pointers.push_back(value.data());
  return submit_kernel(
      *config, function,
      [](void* state) {
        auto* const self = static_cast<Call*>(state);
        self->kernel->thread(self->pointers.data());
      },
      call, [](void* state) { delete static_cast<Call*>(state); });
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 threads, void** arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelExC(&config, function, arguments);
}

// --- Names ------------------------------------------------------------------------------------------------------

const char* soft_gpu::function_name(const void* function) {
  {
    std::unique_lock lock(functions().mutex, std::try_to_lock);
    if (lock) {
      const auto found = functions().of_library.find(function);
      if (found != functions().of_library.end()) return found->second->name.c_str();
    }
  }
  static thread_local char text[1000];
  symbol_name(function, text, sizeof(text));
  return text;
}
