// When the steps of executors ran, and what the host did meanwhile: what profiles are made of.
//
// An executor with a timeline (Executor::set_timeline) submits two marks of its backend around every step and
// goes on; the marks' times are asked for when all is done:
//
//     backend.begin_times();
//     executor.set_timeline(&timeline);
//     executor.run();                                  // submits, waits for nothing
//     backend.synchronize();
//     backend.time_of(timeline.steps[7].end);
//
// A collective that runs on a stream of its own has marks there too. Where it has none, it is in flight from
// the begin of its start to the end of its done. On either kind, what passes between the marks of a done is
// communication that nothing hides: the compute stream (or the processor) waits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/steady_clock.h"
#include "core/compile/executable.h"

namespace tessera {

struct Timeline {
  // One step, or a whole run (kRun), which comes before the steps of its own. Loops and branches are their
  // LoopBegin and BranchBegin, from entering to leaving. What had nothing to do (a done of nothing in flight)
  // is left out.
  struct Step {
    const Executable* executable = nullptr;
    int step = kRun;               // number in Executable::steps
    int begin = -1, end = -1;      // marks on the compute stream; end is -1 where an error broke it off
    int polled = -1;               // on the host: the mark after it had helped collectives along
    int wire_begin = -1, wire_end = -1;  // of a start: marks on the communicator's stream; the former also
                                         // passes before the operands are there (then `begin` is later)
    Ticket ticket = 0;             // of a start or done: number of the collective in its group
  };
  static constexpr int kRun = -1;

  // Something that the host did, in seconds of its steady clock.
  struct HostSpan {
    const char* name;
    double begin = 0, end = 0;
    int64_t number = -1;  // what it was done for, e.g. a step; -1: nothing to say
  };

  std::vector<Step> steps;
  std::vector<HostSpan> host;  // in the order of their ends

  void clear() {
    steps.clear();
    host.clear();
  }
};

// Notes what happens while it lives; nothing where `timeline` is null. `name` must outlive the timeline.
class HostSpanScope {
 public:
  HostSpanScope(Timeline* timeline, const char* name, int64_t number = -1);
  HostSpanScope(const HostSpanScope&) = delete;
  ~HostSpanScope();

 private:
  Timeline* const timeline_;
  Timeline::HostSpan span_;
};

// What a step is called in profiles: its op, what it does there ("start", "wait"), and the name of its result or
// else its scope: "dot_general block.3/mlp", "wait all_gather block.3.mlp.up.weight", "copy of loss".
std::string step_title(const Executable& executable, int step);
// The instruction that a step is for; {0, -1} for a copy.
struct StepInstruction {
  int region = 0, instruction = -1;
};
StepInstruction instruction_of_step(const Executable& executable, int step);

}  // namespace tessera
