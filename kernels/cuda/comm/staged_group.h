// Collectives of device buffers through host memory and a communicator of the inner world: threads, or MPI.
//
//     start   compute stream -event-> copy to the host           on the world's outgoing stream
//     poll    copies that have arrived: the inner collectives start, in order
//     wait    the inner collective ends -> copy to the device -event-> compute stream    on the incoming stream
//
// Results are those of the inner world, to the bit. The host takes part in each collective, so none is recorded.
//
// A wait for peers needs the peers' collectives to have started, which a rank does while it polls. So before a
// rank waits for others in whatever way, it starts all that it has queued in all its groups (StagedWorld::flush):
// the copies these wait for depend on nobody else.
#pragma once

#include <cuda_runtime.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/collective_geometry.h"
#include "kernels/cuda/comm/staging_memory.h"

namespace tessera::cuda {

class StagedGroup;

// What the groups of a rank share.
struct StagedRoom {
  int device = 0;
  StagingMemory memory;
  cudaStream_t out = nullptr, in = nullptr;
  std::vector<StagedGroup*> groups;

  // Starts all collectives that are queued, waiting for their copies.
  void flush();
};

class StagedGroup final : public Communicator {
 public:
  StagedGroup(std::unique_ptr<Communicator> inner, StagedRoom* room);
  ~StagedGroup() override;

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket ticket) override;
  void poll() override;

  bool has_queued() const { return queued_ > 0; }
  bool has_in_flight() const { return operations_.size() > queued_; }
  // Starts the first queued collectives whose copies have arrived; waits for one that has not, if `wait`.
  void advance(bool wait);

 private:
  struct Operation {
    Ticket ticket;
    CollectiveCall call;  // on the host
    void* output;         // on the device
    int64_t output_bytes;
    cudaStream_t compute;
    cudaEvent_t copied;
    Ticket inner = 0;
    StagingMemory::Buffer staged_input, staged_output;
  };

  cudaEvent_t take_event();
  std::byte* place(const void* device, int64_t bytes, StagingMemory::Buffer& buffer);
  void release_buffers(bool all);

  std::unique_ptr<Communicator> inner_;
  StagedRoom* const room_;
  CollectiveGeometry geometry_;
  std::deque<Operation> operations_;  // by ticket; the last queued_ of them wait for their copies
  size_t queued_ = 0;
  Ticket last_ = 0;
  std::vector<cudaEvent_t> events_, free_events_;
  cudaEvent_t ready_ = nullptr;
  // Pinned buffers that a copy to the device still reads, with the event after it.
  struct Leaving {
    StagingMemory::Buffer buffer;
    cudaEvent_t copied;
  };
  std::deque<Leaving> leaving_;
};

}  // namespace tessera::cuda
