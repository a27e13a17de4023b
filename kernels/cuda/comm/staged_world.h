// The world whose collectives go through the host (staged_group.h).
#pragma once

#include "kernels/cuda/comm/cuda_world.h"
#include "kernels/cuda/comm/staged_group.h"

namespace tessera::cuda {

class StagedWorld final : public CudaWorld {
 public:
  StagedWorld(World& inner, CudaBackend& backend, std::string transport);
  ~StagedWorld() override;

 private:
  std::unique_ptr<Communicator> create_device_group(std::span<const int> ranks, std::string_view name,
                                                    std::unique_ptr<Communicator> inner) override;
  void added_arena(std::byte* device, int64_t bytes) override { room_.memory.add_shadow(inner_, device, bytes); }
  void before_exchange() override { room_.flush(); }

  StagedRoom room_;
};

}  // namespace tessera::cuda
