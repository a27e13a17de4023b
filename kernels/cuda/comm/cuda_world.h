// Ranks that each have a GPU: symmetric device memory, and communicators over NCCL or through the host.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/backend/cuda_backend.h"

namespace tessera::cuda {

// See Plugin::create_world.
std::unique_ptr<World> create_cuda_world(World& inner, CudaBackend& backend, Transport transport);

// Of a world made by create_cuda_world: "NCCL 2.28.3", or "staged through pinned host memory (...)".
std::string transport_of(const World& world);

// "NCCL 2.28.3", or "no NCCL: " and why.
std::string nccl_version();

}  // namespace tessera::cuda
