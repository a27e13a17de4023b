// Collectives by NCCL, on a stream of their own, beside what the compute stream does.
//
//     start   compute stream -event-> [pack] -> NCCL -> [unpack]     on the group's stream
//     wait    compute stream <-event-
//
// Both only submit, so both can be recorded. NCCL takes messages that are in one piece; what is cut or put side by
// side along a dim that is not the outermost is copied through scratch memory (swap_blocks.h):
//
//     all_gather       to [n][input]; unpacked where dims before concat_dim are larger than 1
//     reduce_scatter   packed to [n][piece] where dims before split_dim are larger than 1
//     all_to_all       both; sends and receives as one group
//     permute          in place: the input is copied first
//
// Scratch is taken when a call first needs more than there is, which is in an executor's first run, before
// anything is recorded; it is never given back before the group ends, since recordings may hold its addresses.
// A group that packs at all keeps at most the sum of the growing sizes that its calls needed.
//
// Reductions are NCCL's: in the type of the call (bf16 is summed in bf16 or better, as NCCL's version does), in an
// order that follows from the topology. They repeat to the bit on the same GPUs in the same places, and are the same
// on all ranks, but not the same as the host's, whose order is that of the ranks. max and min of floats do not
// promise NaN where one operand is NaN.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/collective_geometry.h"
#include "kernels/cuda/comm/flight_track.h"
#include "kernels/cuda/comm/nccl_communicator.h"
#include "kernels/cuda/comm/nccl_watch.h"

namespace tessera::cuda {

class NcclGroup final : public Communicator {
 public:
  // `number` is the group's on the world's board. On the current device. Collective over the group.
  NcclGroup(int number, GroupInfo info, NcclSetup setup, int device, NcclWatch* watch);
  ~NcclGroup() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return track_.info().name; }

  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket ticket) override;
  void poll() override { watch_->verify(); }
  bool needs_host() const override { return false; }
  void* stream() override { return stream_; }
  const std::shared_ptr<NcclCommunicator>& communicator() const { return communicator_; }

 private:
  struct Pending {
    Ticket ticket;
    cudaEvent_t done;
    cudaStream_t compute;
  };
  struct Form;  // the call as NCCL takes it

  std::byte* scratch(int64_t bytes, const CollectiveCall& call);
  void submit(const CollectiveCall& call);
  void reduce(const CollectiveCall& call, Form form);
  void gather(const CollectiveCall& call, Form form);
  void exchange(const CollectiveCall& call, Form form);
  void permute(const CollectiveCall& call, Form form);
  cudaEvent_t take_event();

  const NcclLibrary& nccl_;
  const int rank_, size_, device_;
  NcclWatch* const watch_;
  FlightTrack track_;
  std::shared_ptr<NcclCommunicator> communicator_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;
  std::vector<cudaEvent_t> events_, free_events_;
  std::deque<Pending> pending_;
  Ticket last_ = 0;
  CollectiveGeometry geometry_;
  std::vector<std::byte*> scratches_;  // the last is the largest
  int64_t scratch_bytes_ = 0;
};

}  // namespace tessera::cuda
