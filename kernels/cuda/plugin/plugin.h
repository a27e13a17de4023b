// What libtessera_cuda.so offers to the rest of the program, which knows nothing of CUDA.
//
// The plugin is opened on demand (open.h), so that a build with CUDA runs, plans and converts on
// machines without a driver. It uses core's symbols as the program that opens it exports them: an op
// is its OpDef's address, on both sides the same.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"

namespace tessera::cuda {

struct DeviceInfo {
  int index = 0;  // as CUDA numbers what CUDA_VISIBLE_DEVICES leaves
  std::string name;
  std::string uuid;     // the same on every rank that uses it
  std::string pci_bus;  // "0000:3b:00.0"
  int major = 0, minor = 0;  // compute capability
  int64_t memory_bytes = 0;
  int multiprocessors = 0;
  int numa_node = -1;  // -1: unknown
};

struct BackendOptions {
  int device = 0;
  bool tf32 = false;     // products of f32 on tf32 matrix units: 10 bits of mantissa
  bool capture = true;   // CUDA graphs
  // Times the algorithms of each matrix product when it is first prepared, instead of taking the first that
  // cuBLASLt proposes; not those that adopt_choices names.
  bool autotune = false;
  // Where compiled kernels are kept by content; "": $XDG_CACHE_HOME/tessera, else ~/.cache/tessera.
  std::string cache_folder;
};

enum class Transport : uint8_t {
  automatic,  // NCCL where every rank has a GPU of its own and libnccl.so.2 is found, else staged
  nccl,
  staged,  // through pinned host memory and the inner world: several ranks may share one GPU
};

class Plugin {
 public:
  virtual ~Plugin() = default;

  // One line each: CUDA's runtime and driver, cuBLASLt, NVRTC, NCCL with what was found of them.
  virtual std::vector<std::string> versions() const = 0;
  // Throws UserError that says what is missing: no driver, a driver too old for this runtime, ...
  // Empty where there is a driver and no (visible) device.
  virtual std::vector<DeviceInfo> devices() const = 0;
  // What a backend will have; needs no device, for plans.
  virtual const KernelTable& kernels() const = 0;
  // Throws UserError where the device is absent or cannot be used.
  virtual std::unique_ptr<Backend> create_backend(const BackendOptions& options) const = 0;
  // Of the memory of the backend's device, what is free now: other processes and threads take from it too.
  virtual int64_t free_bytes(const Backend& backend) const = 0;
  // The world of `inner` whose symmetric memory and communicators work on the backend's device.
  // Collective. Both must outlive the result, and `backend` must be of this plugin. Throws UserError
  // where NCCL is asked for and absent, or two ranks have one GPU.
  virtual std::unique_ptr<World> create_world(World& inner, Backend& backend,
                                              Transport transport) const = 0;
  // What was chosen for each matrix product that the backend has prepared or adopted, as text: to be handed to the
  // other ranks, since replicas that choose differently drift apart, and kept with checkpoints. It names the
  // library and the GPU that it holds for. `backend` must be of this plugin.
  virtual std::string choices(Backend& backend) const = 0;
  // Takes over what another rank or run chose: for products prepared from now on and for those prepared
  // already, but not in recordings. Choices for another GPU or version of cuBLASLt, or that cuBLASLt refuses,
  // are left out with a warning and made anew. Throws UserError where `text` is no such text.
  virtual void adopt_choices(Backend& backend, std::string_view text) const = 0;
  // The transport that `automatic` came to, in words: "NCCL 2.28.3", "staged (2 ranks on one GPU)".
  virtual std::string describe_transport(const World& world) const = 0;

  // The GPU that this rank shall use: its number among the host's ranks, modulo the visible GPUs. A rank that is a
  // process is also kept to the CPUs of the GPU's NUMA node, unless its launcher has bound it already; so it is
  // called before other threads are made. Throws UserError where no GPU is visible.
  virtual int place(World& world) const = 0;
  // A table with a line per rank: host, rank, GPU, PCI bus, NUMA node, CPUs. Collective, the same on all ranks.
  virtual std::string placement(World& world, int device) const = 0;
};

// What the shared object exports, by these names.
inline constexpr const char* kEntryPoint = "tessera_cuda_plugin";
using EntryPoint = const Plugin* (*)();
// Built from the same version of the sources; checked before the entry point is called.
inline constexpr const char* kBuildSymbol = "tessera_cuda_build";

}  // namespace tessera::cuda
