// Groups that span hosts with several ranks on each: shared memory inside the host, messages
// between the hosts, so that a tensor crosses the network once per host and not once per rank.
//
// With H hosts of L ranks, rank (h, l), and S bytes of input:
//
//     all_reduce       reduce_scatter in the host (S -> S/L), all_reduce of that part among the
//                      ranks with the same l, all_gather in the host
//     reduce_scatter   in the host over l, then among the same l over h
//     all_gather       among the same l, then in the host
//
// Everything else, and what is small, goes through plain messages. Sums are associated by host, in
// group order within a host, and then over hosts: fixed for a given placement of ranks. Narrow
// floats travel as f32 partial sums and are rounded once.
#pragma once

#include <memory>
#include <vector>

#include "core/runtime/shared_group.h"
#include "kernels/comm/mpi/mpi_group.h"

namespace tessera {

class HierarchicalGroup final : public Communicator, public Progressable {
 public:
  struct Parts {
    std::unique_ptr<SharedGroup> inner;   // this host's members
    std::unique_ptr<MpiGroup> outer;      // the members with this rank's place on every host
    std::unique_ptr<MpiGroup> flat;       // all members
    std::vector<std::vector<int>> order;  // order[host][place] = group rank
  };
  HierarchicalGroup(int number, GroupInfo info, int rank, Parts parts, PeerMemory* memory,
                    ProgressEngine* engine);
  ~HierarchicalGroup() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return info_.name; }

  Ticket start(const CollectiveCall& call) override;
  void wait(Ticket ticket) override;
  void poll() override { engine_->poll(); }

  bool progress() override;
  bool needs_polling() const override { return next_done_ <= sequence_; }

 private:
  enum class Stage { flat, queued, first, second, third, done };
  struct Operation {
    Stage stage = Stage::done;
    CollectiveCall call;
    CollectiveGeometry geometry;
    DType sum_type = DType::f32;  // what partial sums travel in
    Ticket ticket = 0;            // of the part in flight
    StagingBuffer whole, part, narrow;
  };

  bool worth_it(const CollectiveCall& call) const;
  void begin(Operation& operation);
  void begin_all_reduce(Operation& operation);
  void begin_reduce_scatter(Operation& operation);
  void begin_all_gather(Operation& operation);
  void second(Operation& operation);
  void third(Operation& operation);
  void finish(Operation& operation);
  bool step(Operation& operation);
  bool part_completed(const Operation& operation) const;
  CollectiveCall part_call(const Operation& operation, CollectiveKind kind, const std::byte* input,
                           std::byte* output, int64_t elements) const;
  int64_t padded_elements(const Operation& operation) const;
  bool direct(const Operation& operation) const;

  const int number_;
  const GroupInfo info_;
  const int rank_;
  const int size_;
  Parts parts_;
  const int hosts_;
  const int places_;
  PeerMemory* const memory_;
  ProgressEngine* const engine_;
  std::vector<Operation> operations_;
  uint64_t sequence_ = 0;
  uint64_t next_done_ = 1;
  bool progressing_ = false;
};

}  // namespace tessera
