// Ranks as threads with a GPU each (or one for all), for the tests of communicators.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/runtime/thread_world.h"
#include "core/types/host_tensor.h"
#include "kernels/cuda/plugin/open.h"

namespace tessera::cuda {

struct GpuRank {
  World& inner;
  World& world;
  Backend& backend;
};

struct GpuRanksOptions {
  Transport transport = Transport::automatic;
  bool share_one_gpu = false;
  bool capture = true;
  double timeout_seconds = 60;
};

// The software GPU has as many devices as it is told; a real machine, what it has.
inline std::vector<DeviceInfo> usable_devices() {
  setenv("TESSERA_SOFT_GPU_DEVICES", "4", 0);
  try {
    return open_plugin().devices();
  } catch (const UserError&) {
    if (std::getenv("TESSERA_CUDA_PLUGIN")) throw;  // who names one wants its tests
    return {};
  }
}

inline bool is_software_gpu() {
  const std::vector<DeviceInfo> devices = usable_devices();
  return !devices.empty() && devices[0].name.rfind("Software GPU", 0) == 0;
}

// "" where `ranks` can run so, else why not.
inline std::string why_not(int ranks, const GpuRanksOptions& options) {
  const auto devices = static_cast<int>(usable_devices().size());
  if (devices == 0) return "skipped: no CUDA device";
  if (options.transport == Transport::nccl && !options.share_one_gpu && devices < ranks)
    return cat("skipped: ", ranks, " GPUs are needed, there are ", devices);
  return "";
}

inline void run_gpu_ranks(int ranks, const GpuRanksOptions& options, const std::function<void(GpuRank&)>& body) {
  const auto devices = static_cast<int>(usable_devices().size());
  ThreadRanksOptions threads;
  threads.timeout_seconds = options.timeout_seconds;
  run_thread_ranks(
      ranks,
      [&](World& inner) {
        BackendOptions backend_options;
        backend_options.device = options.share_one_gpu ? 0 : inner.rank() % devices;
        backend_options.capture = options.capture;
        const auto backend = open_plugin().create_backend(backend_options);
        const auto world = open_plugin().create_world(inner, *backend, options.transport);
        world->set_timeout(options.timeout_seconds);
        GpuRank rank{inner, *world, *backend};
        body(rank);
      },
      threads);
}

inline HostTensor fetch(Backend& backend, const void* device, const TensorType& type) {
  HostTensor tensor(type);
  backend.copy_to_host(tensor.bytes().data(), device, type.bytes());
  return tensor;
}

inline void put(Backend& backend, void* device, const HostTensor& tensor) {
  backend.copy_to_device(device, tensor.bytes().data(), tensor.type().bytes());
}

inline bool same_bytes(const HostTensor& a, const HostTensor& b) {
  return a.type() == b.type() && std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin());
}

}  // namespace tessera::cuda
