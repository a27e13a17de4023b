// Collectives by MPI messages, for ranks that share no memory: point to point, so that reductions
// have our order (group rank 0 + 1 + ...) and bf16 is summed in f32, neither of which MPI_Allreduce
// promises.
//
//     all_reduce       chunk p of the input goes to rank p, which combines the n chunks in order
//     and
//                      sends the result to all: 2 S (n-1)/n bytes out of each rank
//     reduce_scatter   block p to rank p, which combines: S (n-1)/n
//     all_gather       the input to all: S (n-1)
//     all_to_all       block p to rank p: S (n-1)/n
//     permute          the input to one rank: S
//     broadcast        MPI_Ibcast
//
// Messages are posted at the start; poll() and wait() move the operation on when all messages of
// its phase have arrived.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/collective_geometry.h"
#include "core/runtime/communicator.h"
#include "core/runtime/peer_memory.h"
#include "core/runtime/progress_engine.h"
#include "kernels/comm/mpi/mpi_support.h"

namespace tessera {

class MpiGroup final : public Communicator, public Progressable {
 public:
  // `comm` has the members of `info` in their order. `memory` lends buffers for messages.
  MpiGroup(int number, GroupInfo info, int rank, OwnedComm comm, PeerMemory* memory,
           ProgressEngine* engine);
  ~MpiGroup() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return info_.name; }

  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket ticket) override;
  void poll() override { progress(); }

  bool progress() override;
  bool needs_polling() const override { return next_done_ <= sequence_; }
  bool completed(Ticket ticket) const { return static_cast<uint64_t>(ticket) < next_done_; }

 private:
  enum class Phase { first, second, done };
  struct Operation {
    uint64_t sequence = 0;
    CollectiveGeometry geometry;
    const std::byte* input = nullptr;
    std::byte* output = nullptr;
    int send_to = -1, receive_from = -1, root = 0;
    std::string_view tensor;
    Phase phase = Phase::done;
    StagingBuffer outgoing, incoming;  // messages, where they are not sent from the operands
    std::vector<MPI_Request> requests;
  };

  int tag_of(const Operation& operation, int phase) const;
  std::byte* outgoing(Operation& operation, int peer);
  std::byte* incoming(Operation& operation, int peer);
  void post_first(Operation& operation);
  void post_reduce_chunks(Operation& operation);
  void post_pieces(Operation& operation);
  void post_permute(Operation& operation);
  void post_broadcast(Operation& operation);
  void advance(Operation& operation);
  void finish_first(Operation& operation);
  void finish(Operation& operation);
  void chunk_bounds(const Operation& operation, int peer, int64_t& begin, int64_t& count) const;

  const int number_;
  const GroupInfo info_;
  const int rank_;
  const int size_;
  OwnedComm comm_;
  PeerMemory* const memory_;
  ProgressEngine* const engine_;
  std::vector<Operation> operations_;
  uint64_t sequence_ = 0;
  uint64_t next_done_ = 1;
  std::vector<const std::byte*> sources_;
};

}  // namespace tessera
