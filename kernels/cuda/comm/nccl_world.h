// The world whose collectives are NCCL's (nccl_group.h).
//
//     first group       unique id, from rank 0 to all by the inner world -> one communicator of all ranks
//     each group        ncclCommSplit of that one: no id of its own to carry, no bootstrap of its own
//     symmetric memory  ncclMemAlloc, registered with each group: NCCL moves it without buffers of its own in between
#pragma once

#include <memory>
#include <vector>

#include "kernels/cuda/comm/cuda_world.h"
#include "kernels/cuda/comm/nccl_watch.h"

namespace tessera::cuda {

class NcclWorld final : public CudaWorld {
 public:
  NcclWorld(World& inner, CudaBackend& backend, const NcclLibrary& nccl);
  ~NcclWorld() override;

  void set_timeout(double seconds) override;

 private:
  struct Registrable {
    std::byte* memory;
    int64_t bytes;
  };

  std::unique_ptr<Communicator> create_device_group(std::span<const int> ranks, std::string_view name,
                                                    std::unique_ptr<Communicator> inner) override;
  void join_no_group() override;
  std::byte* make_arena(int64_t bytes) override;
  void release_arena(std::byte* arena) noexcept override;
  void added_arena(std::byte* arena, int64_t bytes) override;
  void before_exchange() override { watch_.verify(); }

  NcclSetup setup(std::string_view name);
  NcclCommunicator& all_ranks();
  // The same answer on all ranks.
  bool all_agree(bool mine) { return inner_.all_reduce_max(mine ? 0 : 1) == 0; }
  void tell_unregistered();

  const NcclLibrary& nccl_;
  NcclWatch watch_;
  int next_number_;
  std::vector<Registrable> registrables_;  // NCCL's memory, the same on all ranks
  std::vector<std::weak_ptr<NcclCommunicator>> communicators_;
  bool has_told_ = false;
  std::unique_ptr<NcclCommunicator> all_ranks_;
};

}  // namespace tessera::cuda
