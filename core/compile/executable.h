// What runs: steps over planned buffers. The same for every rank; the rank enters only as data.
//
//     localized graph --select kernels--> steps --schedule--> ordered steps --memory plan--> offsets
//
// A collective is two steps, start and done, so that kernels can run in between. Buffers live in
// one of three arenas; inputs and outputs (parameters, optimizer state, data) are persistent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
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

struct BufferPlan {
  TensorType type;
  Arena arena = Arena::scratch;
  int64_t bytes = 0;
  int64_t offset = -1;     // in its arena; 64-byte aligned
  int alias_of = -1;       // buffer whose memory this one shares (in place, reshape), or -1
  std::string tensor;      // a name for messages
  int input = -1;          // graph input number for persistent buffers, else -1
  int output = -1;         // graph output number, else -1
};

struct KernelStep {
  int instruction = -1;            // in `graph`
  const Kernel* kernel = nullptr;
  std::vector<int> operands;       // buffer numbers
  std::vector<int> results;
  int workspace = -1;              // buffer number, or -1
};

struct CollectiveStart {
  int instruction = -1;
  int communicator = -1;           // number in Executable::communicators
  CollectiveKind kind = CollectiveKind::all_reduce;
  int input = -1, output = -1;     // buffer numbers
};
struct CollectiveDone {
  int start_step = -1;             // step number of its CollectiveStart
};

// axis_index: the host writes the rank's coordinate.
struct RankDataStep {
  int instruction = -1;
  int result = -1;
};

using Step = std::variant<KernelStep, CollectiveStart, CollectiveDone, RankDataStep>;

// What the scheduler's simulation of the step found (docs/scheduling.md).
struct ScheduleReport {
  double step_seconds = 0;
  double compute_seconds = 0;
  double exposed_communication_seconds = 0;
  struct Exposed {
    int instruction;
    double seconds;         // of communication
    double exposed_seconds; // not hidden behind compute
  };
  std::vector<Exposed> collectives;
};

struct MemoryReport {
  int64_t persistent_bytes = 0, symmetric_bytes = 0, scratch_bytes = 0, constant_bytes = 0;
  int64_t live_lower_bound = 0;  // max over time of the live bytes of symmetric + scratch
  int64_t peak_bytes() const { return persistent_bytes + symmetric_bytes + scratch_bytes + constant_bytes; }
};

struct Executable {
  Graph graph;                           // localized, fused, scheduled order
  std::vector<BufferPlan> buffers;
  std::vector<Step> steps;
  std::vector<AxisList> communicators;   // all ranks create them in this order
  std::vector<int> input_buffers, output_buffers;
  ScheduleReport schedule;
  MemoryReport memory;
  struct Fallback { int instruction; std::vector<std::string> refusals; };
  std::vector<Fallback> reference_kernels;  // ops that fell to the reference
  int copies = 0;                        // copies inserted because an alias could not be kept
};

}  // namespace tessera
