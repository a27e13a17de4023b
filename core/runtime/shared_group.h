// Collectives among ranks that share memory: threads of one process, or processes of one host.
//
// All communication is loads and stores; nothing is sent. A group has a ring of slots in shared
// memory, one per collective in flight, each with two counters:
//
//     start   writes this rank's descriptor (where its operands lie) into the slot, arrived += 1
//     share   once all have arrived: this rank does its part, reading the peers' inputs where they
//             lie, then finished += 1. Happens in poll() or wait(), in the order of the starts.
//     done    once all have finished: the output is complete and the input reusable
//
// What a rank's share is, with n ranks and S bytes of input each, and the bytes that it moves:
//
//     all_reduce       chunk r of all inputs, combined in rank order, written to all n outputs   2S
//     reduce_scatter   block r of all inputs, combined in rank order, to its own output      S +
//     S/n all_gather       every input to its own output 2nS all_to_all       block r of every
//     input to its own output                                  2S permute, broadcast  one input to
//     its own output                                            2S
//
// A call of at most eager_bytes copies its input into the slot instead; every rank then computes
// its whole output alone, and is done without waiting for the others to finish.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/collective_geometry.h"
#include "core/runtime/communicator.h"
#include "core/runtime/peer_memory.h"
#include "core/runtime/progress_engine.h"

namespace tessera {

// Slots of a group: the collectives that may be in flight in it at once. One more start waits for
// the oldest of them.
inline constexpr int kCollectiveSlots = 32;

class SharedGroup final : public Communicator, public Progressable {
 public:
  // Bytes of zeroed shared memory that a group of `size` ranks needs, 64-byte aligned.
  static int64_t control_bytes(int size);

  // `number` and `info` as in ProgressEngine; `rank` is this rank's place in info.members.
  SharedGroup(int number, GroupInfo info, int rank, std::byte* control, PeerMemory* memory,
              ProgressEngine* engine);
  ~SharedGroup() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return info_.name; }

  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket ticket) override;
  void poll() override;

  bool progress() override;
  bool completed(Ticket ticket) const { return static_cast<uint64_t>(ticket) < next_done_; }

 private:
  struct Descriptor;  // in shared memory
  struct Slot;        // in shared memory
  struct Operation;   // of this rank

  Slot& slot_of(uint64_t sequence) const;
  Descriptor& descriptor_of(uint64_t sequence, int rank) const;
  std::byte* eager_of(uint64_t sequence, int rank) const;
  // What a slot's counters reach when `sequence` has been counted by all.
  uint32_t target_of(uint64_t sequence) const;

  void run_alone(const CollectiveCall& call);
  void await_slot(uint64_t sequence, const CollectiveCall& call);
  void publish(Operation& operation, const CollectiveCall& call);
  void stage_operands(Operation& operation, const CollectiveCall& call, Descriptor& mine);
  void check_peers(const Operation& operation);
  void do_share(Operation& operation);
  void share_all_reduce(Operation& operation);
  const std::byte* input_of(const Operation& operation, int rank);
  void finish_staging(Operation& operation);
  void ring_peers();

  const int number_;
  const GroupInfo info_;
  const int rank_;
  const int size_;
  const int64_t eager_bytes_;
  std::byte* const control_;
  PeerMemory* const memory_;
  ProgressEngine* const engine_;
  std::vector<int> locals_;            // members, as numbers on the board
  std::vector<Operation> operations_;  // by sequence % kCollectiveSlots
  uint64_t sequence_ = 0;              // of the last start
  uint64_t next_share_ = 1;            // the first collective whose share is not done
  uint64_t next_done_ = 1;             // the first collective that is not complete
  std::vector<const std::byte*> inputs_;
  std::vector<std::byte*> outputs_;
};

}  // namespace tessera
