// The order of a step, found on a simulated machine (docs/scheduling.md).
//
// The machine has one compute lane, which runs kernels one after the other, and one lane per link
// class, which runs collectives one after the other beside it. The scheduler walks through
// simulated time:
//
//   1. Collectives whose operands are complete start at once, in program order, while the live
//   bytes
//      stay under the cap. A weight gather (all its ancestors are inputs and cheap local steps)
//      could start at time 0; it starts when the gathered weights not yet used leave room in a
//      window, and takes its cheap ancestors along.
//   2. The compute lane takes the first kernel in program order that waits for nothing; where the
//      first of all waits for a collective, one of the next few that fits in memory goes before it.
//   3. A collective is waited for when the first step that needs its result comes, or earlier where
//      what it holds back from being freed exceeds the window.
//
// A collective that was kept back starts at the latest at its own place in the program. Ties go by
// program order, and nothing depends on the rank, so all ranks start collectives in the same order.
//
// A loop or branch is one step of the compute lane, as long as its turns (of an arm: the slowest).
// Its regions are scheduled alone, by the same rules; all that they start they also wait for, except
// that the body of a loop may leave a collective to the next turn (core/compile/left_in_flight.h).
#pragma once

#include <cstdint>
#include <vector>

#include "core/compile/cost_model.h"
#include "core/compile/step_graph.h"

namespace tessera {

struct ScheduleOptions {
  // False: program order, every collective waited for at once.
  bool overlap = true;
  // Bytes of live memory under which collectives start early. 0: the peak of program order plus one
  // window.
  int64_t memory_cap_bytes = 0;
  // Gathered weights that may wait for their use, and bytes that collectives in flight may hold
  // back. 0: what the weight gathers of the largest block (first part of the scope) give.
  int64_t window_bytes = 0;
  // How many kernels beyond the first one may be taken while that one waits.
  int lookahead = 64;
};

struct Action {
  // A loop or branch is one `run` for the scheduler; flatten() turns it into the others.
  enum class Kind : uint8_t {
    run, start, done, loop_begin, loop_test, loop_end, branch_begin, arm_end
  };
  Kind kind = Kind::run;
  int node = -1;
  int part = -1;             // of loop_test, loop_end, arm_end: which region ends here
  std::vector<int> outputs;  // and the buffers of its outputs
  std::vector<int> in_flight = {};  // of loop_end: collectives that are not over
};

struct Schedule;

// The schedules of the regions of one node, and what they add up to.
struct RegionSchedules {
  std::vector<Schedule> schedules;
  double turns = 1;  // of a loop
  int slowest = 0;   // of a branch: the arm that counts
  double seconds = 0, compute_seconds = 0, exposed_seconds = 0;
  int64_t peak_live_bytes = 0;
};

// A collective at the end of a loop's body, into a carried value: the next turn waits for it, before
// action `before`, or what follows the loop does.
struct LeftInFlight {
  int node = -1;
  size_t before = 0;
};

struct Schedule {
  std::vector<Action> actions;
  std::vector<double> times;       // when each action begins, in simulated seconds
  std::vector<LeftInFlight> left;  // of a loop's body
  ScheduleReport report;
  int64_t peak_live_bytes = 0;
  std::vector<int64_t> live_bytes;  // per node, while it runs (a collective: as it starts)
  std::vector<RegionSchedules> regions;  // per node; empty where the program has none
};

Schedule schedule_steps(const StepGraph& steps, const Graph& graph, const CostModel& cost,
                        const ScheduleOptions& options);

}  // namespace tessera
