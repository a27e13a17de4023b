// A step of an executable with its addresses: what the executor runs. Private to core/runtime/executor*.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/executor.h"

namespace tessera {

struct Executor::Bound {
  enum class Kind : uint8_t {
    kernel, start, done, rank_data, copy, loop_begin, loop_test, loop_end, branch_begin, arm_end
  };
  Kind kind = Kind::kernel;
  int region = 0;
  int instruction = -1;  // -1: a copy
  const Kernel* kernel = nullptr;
  std::vector<TensorView> operands, results;
  std::byte* workspace = nullptr;
  Communicator* communicator = nullptr;
  CollectiveCall call;
  int64_t coordinate = 0;  // of rank data; 0 on one device without a mesh
  Ticket ticket = 0;
  bool in_flight = false;  // of a start
  bool is_idle = false;    // of a done that had nothing to wait for
  Bound* started = nullptr;  // of a done, and of what ends or tests a loop or branch
  // Of the step that begins a loop or branch, which copies `operands` to `results` where they differ.
  size_t begin_step = 0, end_step = 0;
  int64_t trip_count = -1, turn = 0;
  std::vector<int> arm_steps;
  const std::byte* condition = nullptr;  // predicate or index
  std::vector<Communicator*> inside;     // that its regions use, for check_uniform
  int profile_slot = -1;
  double started_at = 0;  // of a start, with `profile`
  MeasuredCollective measured;
  size_t timed = 0;  // of what begins a loop or branch: its place in the timeline
};

// Steps [begin, end) of which none needs the host, with each start's done among them.
struct Executor::Segment {
  size_t begin = 0, end = 0;
  int64_t runs = 0;
  int recording = -1;
  std::string name;  // of its range
};

}  // namespace tessera
