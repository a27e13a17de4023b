// What the scheduler orders and the memory plan places: steps that read and write buffers, and the
// edges between them. Made once from the local graph, before any order or address is chosen.
//
// Every value has a buffer. Three kinds of values need no step:
//   * views (reshape, a contiguous slice, a collective over one device) lie in their operand;
//   * constants (no operands, same on every device) are computed once, when the executor is made;
//   * operands of a contiguous concatenate are written where they will stand in its result (buckets
//     of gradients); the few that cannot be are copied there.
//
// An output that must overwrite an input is written straight into it. All other readers of the
// input then run first (read-before-overwrite edges); where an edge would close a cycle, or the
// kernel cannot work in place, the result is copied at the end of the step, and counted.
//
// A loop or branch is one node that holds the step graphs of its regions. A region is built like a
// graph of its own: what the body returns must overwrite its inputs, as parameters do. Once all are
// scheduled, flatten() (core/compile/flatten.h) joins them.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/compile/executable.h"

namespace tessera {

struct ControlSteps;

struct StepNode {
  enum class Kind : uint8_t { kernel, collective, rank_data, copy, control };
  Kind kind = Kind::kernel;
  int instruction = -1;  // of the graph; -1 for a copy
  const Kernel* kernel = nullptr;
  std::vector<int> reads, writes;  // buffers, in operand and result order
  int64_t workspace_bytes = 0;
  int workspace = -1;  // its buffer, made by the memory plan
  int communicator = -1;
  CollectiveKind collective = CollectiveKind::all_reduce;
  std::vector<int> before;  // nodes that must be complete first
  int region = 0;           // after flatten(): whose instruction it is
  std::shared_ptr<const ControlSteps> control;
};

struct StepGraph {
  // In program order. Data edges point forward; read-before-overwrite edges may point backward.
  std::vector<StepNode> nodes;
  std::vector<BufferPlan> buffers;  // the first ones are the values, in order
  std::vector<AxisList> communicators;
  std::vector<int> input_buffers, output_buffers;
  std::vector<Executable::Constant> constants;
  std::vector<Executable::Fallback> reference_kernels;
  int copies = 0;
  std::vector<RegionPlan> regions;  // filled by flatten()

  // The buffer whose memory `buffer` lies in, after all aliases, and where in it.
  int root(int buffer) const;
  int64_t offset_in_root(int buffer) const;
  // For each buffer, the node that writes it; -1 where none does.
  std::vector<int> writers() const;
};

// What a loop, branch or call runs. Inputs of a region are the node's operands, without the index.
struct ControlSteps {
  struct Region {
    StepGraph steps;
    GraphRef graph;
    std::string role;
  };
  bool is_loop = false;
  bool has_index = false;       // operand 0 chooses the arm
  int64_t trip_count = -1;      // of a loop; -1: while the predicate is true
  std::vector<Region> regions;  // of a loop: body, then the condition unless the trip count is known
  // Result -> number of the region input that it starts as and lies over; -1: made by the arms.
  std::vector<int> carried;
  std::vector<bool> unchanged;  // result -> it is that input in every region: a view
  bool communicates = false;    // collectives inside
};

// Throws InternalError where the graph is not local or holds a reshard.
StepGraph build_step_graph(const Graph& graph, const KernelTable& kernels);

}  // namespace tessera
