// The world whose collectives are NCCL's (nccl_group.h).
#pragma once

#include "kernels/cuda/comm/cuda_world.h"
#include "kernels/cuda/comm/nccl_watch.h"

namespace tessera::cuda {

class NcclWorld final : public CudaWorld {
 public:
  NcclWorld(World& inner, CudaBackend& backend, const NcclLibrary& nccl);
  ~NcclWorld() override;

  void set_timeout(double seconds) override;

 private:
  std::unique_ptr<Communicator> create_device_group(std::span<const int> ranks, std::string_view name,
                                                    std::unique_ptr<Communicator> inner) override;
  void before_exchange() override { watch_.verify(); }

  const NcclLibrary& nccl_;
  NcclWatch watch_;
  int next_number_;
};

}  // namespace tessera::cuda
