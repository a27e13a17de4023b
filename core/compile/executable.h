// What runs: steps over planned buffers. The same for every rank; the rank enters only as data.
//
//     localized graph --select kernels--> steps --schedule--> ordered steps --memory plan-->
//     offsets
//
// A collective is two steps, start and done, so that kernels can run in between. Buffers live in
// one of three arenas; inputs and outputs (parameters, optimizer state, data) are persistent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/ir/graph.h"
#include "core/runtime/communicator.h"
#include "core/runtime/kernel_table.h"

namespace tessera {

enum class Arena : uint8_t {
  persistent,  // graph inputs, and the outputs that alias them; caller-owned between runs
  symmetric,   // what collectives touch; mapped by the peers of the host
  scratch,     // everything else
  constant,    // written once when the executor is made
};

// Why a buffer lies in another one's memory.
enum class AliasKind : uint8_t {
  none,
  view,       // the same data: reshape, a contiguous slice, a collective over one device
  member,     // the same data: an operand of a concatenate, written where it will stand
  overwrite,  // other data: an update in place
};

struct BufferPlan {
  TensorType type;
  Arena arena = Arena::scratch;
  int64_t bytes = 0;
  int64_t offset = -1;       // in its arena, or in the memory of input `input`; 64-byte aligned
  int alias_of = -1;         // buffer whose memory this one shares, or -1
  int64_t alias_offset = 0;  // where in that buffer, in bytes
  AliasKind alias = AliasKind::none;
  bool collective =
      false;  // a collective reads or writes it (a persistent one had better be symmetric)
  // Of the whole memory that this buffer and its aliases share: the steps from the first write to
  // the last use. -1 for persistent, constant and unused buffers.
  int first_step = -1, last_step = -1;
  std::string tensor;  // a name for messages
  int input = -1;      // graph input number for persistent buffers, else -1
  int output = -1;     // graph output number, else -1
};

struct KernelStep {
  int instruction = -1;  // in `graph`
  const Kernel* kernel = nullptr;
  std::vector<int> operands;  // buffer numbers
  std::vector<int> results;
  int workspace = -1;  // buffer number, or -1
};

struct CollectiveStart {
  int instruction = -1;
  int communicator = -1;  // number in Executable::communicators
  CollectiveKind kind = CollectiveKind::all_reduce;
  int input = -1, output = -1;  // buffer numbers
};
struct CollectiveDone {
  int start_step = -1;  // step number of its CollectiveStart
};

// What depends on which device runs it, done by the executor itself: axis_index (writes the
// coordinate), all_slice (copies the device's block), replicated_to_partial (copies, or fills with
// the identity).
struct RankDataStep {
  int instruction = -1;
  int input = -1;  // buffer number; -1 for axis_index
  int result = -1;
};
// A copy of the whole of `from`, where an output could not be made in its place (counted).
struct CopyStep {
  int from = -1, to = -1;
};

using Step = std::variant<KernelStep, CollectiveStart, CollectiveDone, RankDataStep, CopyStep>;

// What the scheduler's simulation of the step found (docs/scheduling.md).
struct ScheduleReport {
  double step_seconds = 0;
  double compute_seconds = 0;
  double exposed_communication_seconds = 0;
  struct Exposed {
    int instruction;
    double seconds;          // of communication
    double exposed_seconds;  // not hidden behind compute
  };
  std::vector<Exposed> collectives;
};

struct MemoryReport {
  int64_t persistent_bytes = 0, symmetric_bytes = 0, scratch_bytes = 0, constant_bytes = 0;
  int64_t live_lower_bound = 0;  // max over time of the live bytes of symmetric + scratch
  int64_t peak_bytes() const {
    return persistent_bytes + symmetric_bytes + scratch_bytes + constant_bytes;
  }
};

struct Executable {
  Graph graph;  // localized and fused; `steps` holds the order
  std::vector<BufferPlan> buffers;
  std::vector<Step> steps;
  std::vector<AxisList> communicators;  // all ranks create them in this order
  std::vector<int> input_buffers, output_buffers;
  std::vector<std::pair<int, int>> constants;  // (instruction, result 0's buffer), computed once
  ScheduleReport schedule;
  MemoryReport memory;
  struct Fallback {
    int instruction;
    std::vector<std::string> refusals;
  };
  std::vector<Fallback> reference_kernels;  // ops that fell to the reference
  int copies = 0;                           // copies inserted because an alias could not be kept
};

}  // namespace tessera
