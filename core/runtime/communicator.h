// How ranks talk: one interface for ranks as threads, Open MPI and NCCL.
//
// A World is a rank's view of all ranks. From it come symmetric memory and Communicators, each over
// a group of ranks (in the partitioner's words: a subset of mesh axes). Every rank creates its
// communicators in the same order, and starts the collectives of one communicator in the same
// order. A group of one moves no bytes over any wire (out of place calls still copy).
//
// A collective is started and then waited for, so that compute can run in between:
//
//     Ticket ticket = group.start(call);   // announces the operands; never blocks on a peer's data
//     ... kernels, with group.poll() between them ...
//     group.wait(ticket);                  // on return the output is complete, the input reusable
//
// Reductions have a fixed order (rank 0 + rank 1 + ...), so a result is bitwise the same on all
// ranks and in every run; bf16 and f16 are summed in f32 and rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types/reduce_kind.h"
#include "core/types/shape.h"

namespace tessera {

class ProgressEngine;

enum class CollectiveKind : uint8_t {
  all_reduce,      // out[local] = combine over ranks of in[local]
  all_gather,      // dim `concat_dim` of out is the ranks' inputs side by side, in group order
  reduce_scatter,  // all_reduce, of which rank r keeps block r of dim `split_dim`
  all_to_all,      // dim `split_dim` is cut in n blocks, block j goes to rank j; what arrives is put
                   // side by side along `concat_dim`, in group order
  permute,         // in goes to `send_to`, out comes from `receive_from` (-1: nothing; zeros arrive)
  broadcast,       // out = the input of group rank `root`
};

std::string_view name_of(CollectiveKind kind);
std::ostream& operator<<(std::ostream& out, CollectiveKind kind);

// One rank's side of a collective. Tensors are dense and row-major.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::all_reduce;
  const void* input = nullptr;
  void* output = nullptr;  // may be == input for all_reduce, permute and broadcast
  DType dtype = DType::f32;
  Shape shape;  // of the input on this rank; the output's follows from the kind
  ReduceKind reduce = ReduceKind::sum;
  int split_dim = 0;
  int concat_dim = 0;
  int send_to = -1;
  int receive_from = -1;
  int root = 0;
  std::string_view tensor = "";  // for messages; must outlive the call
  void* stream = nullptr;        // a device stream; null on the CPU
};

// The shape of the output of `call` in a group of `group_size`.
Shape output_shape(const CollectiveCall& call, int group_size);

using Ticket = int64_t;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // within the group
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // e.g. "data" or "data,model", for messages

  // Throws UserError when a peer is lost or the timeout passes; the message names the lagging rank,
  // the collective, its sequence number and the tensor.
  virtual Ticket start(const CollectiveCall& call) = 0;
  virtual void wait(Ticket ticket) = 0;
  // Lets collectives in flight make progress; cheap, called between kernels.
  virtual void poll() {}
  // On a device: whether start and wait need the host to take part, so that they cannot be captured.
  // Where not, they only submit, and what `wait` promises holds for work submitted to the stream after it.
  virtual bool needs_host() const { return true; }
  // On a device: the stream that collectives run on, in the order of their starts, for Backend::mark_time. Null
  // where they have none of their own.
  virtual void* stream() { return nullptr; }

  void run(const CollectiveCall& call) { wait(start(call)); }
};

class World {
 public:
  virtual ~World() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks of this host
  virtual int local_size() const = 0;
  virtual const std::string& host_name() const = 0;
  // Whether ranks are threads of one process (and share its log, signals and working folder).
  virtual bool shares_process() const { return false; }

  // Collective over all ranks: `bytes` of zeroed memory at 64-byte alignment, which the peers of
  // the host can read and write directly. Every rank passes the same size. It lives as long as the
  // World. Collectives on operands inside such memory skip all staging copies.
  virtual std::byte* allocate_symmetric(int64_t bytes) = 0;

  // Collective over all ranks (each passes the group it belongs to, in group order).
  virtual std::unique_ptr<Communicator> create_group(std::span<const int> ranks,
                                                     std::string_view name) = 0;

  // Small blocking exchanges for the control plane (configs, flags, errors), not for tensors.
  virtual void barrier() = 0;
  virtual int64_t all_reduce_max(int64_t value) = 0;
  virtual std::string broadcast_text(const std::string& text, int root) = 0;
  virtual std::vector<std::string> all_gather_text(const std::string& text) = 0;

  // How long a rank may hold its peers up from now on, in seconds; 0: for ever. Worlds whose timeout
  // is fixed at their making ignore it.
  virtual void set_timeout(double /*seconds*/) {}

  // What this rank and its peers are doing, as messages tell it (core/runtime/progress_engine.h), for
  // transports that stand on this world; null where nobody keeps it.
  virtual ProgressEngine* progress() { return nullptr; }

  // Tells the peers that this rank failed, so that their waits end at once with `reason` and the
  // rank's number instead of a timeout. Never blocks.
  virtual void abort(std::string_view reason) noexcept = 0;
};

}  // namespace tessera
