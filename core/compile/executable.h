// What runs: steps over planned buffers. The same for every rank; the rank enters only as data.
//
//     localized graph --select kernels--> steps --schedule--> ordered steps --memory plan-->
//     offsets
//
// A collective is two steps, start and done, so that kernels can run in between. Loops and branches
// are markers in the same list, so that schedule, memory plan and checker see one program:
//
//     LoopBegin [condition steps  LoopTest] body steps  LoopEnd
//     BranchBegin  arm steps  ArmEnd  arm steps  ArmEnd
//
// Buffers live in one of four arenas; inputs and outputs (parameters, optimizer state, data) are
// persistent.
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
  int instruction = -1;  // in the graph of `region`
  const Kernel* kernel = nullptr;
  std::vector<int> operands;  // buffer numbers
  std::vector<int> results;
  int workspace = -1;  // buffer number, or -1
  int region = 0;      // 0: the graph itself, r: Executable::regions[r - 1]
};

struct CollectiveStart {
  int instruction = -1;
  int communicator = -1;  // number in Executable::communicators
  CollectiveKind kind = CollectiveKind::all_reduce;
  int input = -1, output = -1;  // buffer numbers
  int region = 0;
};
// Waits for a collective. Where the start stands behind it, in the same loop, it waits for that of the
// turn before; where nothing is in flight (the first turn) it passes.
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
  int region = 0;
};
// A copy of the whole of `from`, where an output could not be made in its place (counted).
struct CopyStep {
  int from = -1, to = -1;
};

// A value that a loop or branch hands on: `from` was made outside and `to` is the result that starts
// as it, or `from` was made inside and is from here on the result `to`. A loop may start with one
// element `from` all over `to`.
struct HandedOn {
  int from = -1, to = -1;
};

// Enters a loop: results start as the operands they lie over, and are copied where they could not
// share memory. A turn works on them in place.
struct LoopBegin {
  int instruction = -1;
  int region = 0;
  int64_t trip_count = -1;  // -1: while the predicate is true
  std::vector<HandedOn> carried;
  int end_step = -1;
  bool communicates = false;  // collectives inside: all ranks must take the same turns
};
struct LoopTest {  // leaves the loop where the predicate is false
  int begin_step = -1;
  int predicate = -1;  // buffer number
};
struct LoopEnd {
  int begin_step = -1;
  std::vector<HandedOn> carried;  // of the body's outputs, which lie in the results already
  std::vector<int> in_flight;     // starts that the next turn waits for, or a done behind the loop
};
// Runs one of several arms; a call has one.
struct BranchBegin {
  int instruction = -1;
  int region = 0;
  int index = -1;  // buffer number of an s32; -1: a call. Out of range: the last arm
  std::vector<HandedOn> carried;
  std::vector<int> arm_steps;  // where each arm begins
  int end_step = -1;           // the last ArmEnd
  bool communicates = false;
};
struct ArmEnd {
  int begin_step = -1;
  std::vector<HandedOn> results;
};

using Step = std::variant<KernelStep, CollectiveStart, CollectiveDone, RankDataStep, CopyStep,
                          LoopBegin, LoopTest, LoopEnd, BranchBegin, ArmEnd>;

// A graph that an instruction of another one runs: a loop's body or condition, an arm, a callee.
struct RegionPlan {
  GraphRef graph;
  int parent = 0;        // region of the instruction
  int instruction = -1;  // in the parent's graph
  std::string role;      // "body", "condition", "branch 2", "callee"
};

// What the scheduler's simulation of the step found (docs/scheduling.md).
struct ScheduleReport {
  double step_seconds = 0;
  double compute_seconds = 0;
  double exposed_communication_seconds = 0;
  struct Exposed {
    int instruction;
    double seconds;          // of communication, over all turns of the loops around it
    double exposed_seconds;  // not hidden behind compute
    int region = 0;
    double turns = 1;  // 0: in an arm that is not the slowest, which alone counts
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
  std::vector<RegionPlan> regions;
  std::vector<BufferPlan> buffers;
  std::vector<Step> steps;
  std::vector<AxisList> communicators;  // all ranks create them in this order
  std::vector<int> input_buffers, output_buffers;
  struct Constant {
    int instruction;
    int buffer;  // of result 0; as many of its elements as fit there
    int region = 0;
  };
  std::vector<Constant> constants;  // computed once
  ScheduleReport schedule;
  MemoryReport memory;
  struct Fallback {
    int instruction;
    std::vector<std::string> refusals;
    int region = 0;
  };
  std::vector<Fallback> reference_kernels;  // ops that fell to the reference
  int copies = 0;                           // copies inserted because an alias could not be kept

  const Graph& graph_of(int region) const {
    return region == 0 ? graph : *regions[static_cast<size_t>(region) - 1].graph;
  }
  const Instruction& instruction_of(int region, int index) const {
    return graph_of(region).instructions[static_cast<size_t>(index)];
  }
};

// The instruction for messages, with the loops and branches around it: "%3 tanh in body of %7 while".
std::string describe_step(const Executable& executable, int region, int instruction);

}  // namespace tessera
