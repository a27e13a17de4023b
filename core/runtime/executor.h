// Runs an Executable on one rank, step after step.
//
// All memory is taken when the executor is made: arenas from the backend (the symmetric one through
// the World), persistent tensors from a BufferStore that several executors can share. run()
// allocates nothing; addresses never change.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/compile/executable.h"
#include "core/runtime/backend.h"
#include "core/runtime/buffer_store.h"
#include "core/runtime/communicator.h"

namespace tessera {

struct Timeline;

struct ExecutorOptions {
  // Fills memory with NaN bits when its last reader is done, so that a read of a freed buffer
  // shows.
  bool poison_freed = false;
  // Measure seconds per kind of step, and what each collective keeps waiting. A device is waited for
  // after each step, so that nothing overlaps.
  bool profile = false;
  // On a backend that can: stretches of steps that need nothing of the host are recorded in their second
  // run and replayed from then on. Off while there is an observer, and with poison_freed or profile.
  bool capture = true;
  // Compares, among the ranks that meet in collectives inside, the predicates of loops and the
  // indices of branches; UserError where they differ (they would wait for each other for ever).
  bool check_uniform = false;
};

class Executor {
 public:
  // `world` is null on one device; `device` is this rank's place on the graph's mesh. Collective
  // over the world: creates the communicators in the listed order, and the inputs that `store`
  // lacks. All arguments must outlive the executor.
  Executor(const Executable& executable, Backend& backend, World* world, int64_t device,
           BufferStore& store, ExecutorOptions options = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // One pass over the steps. An error names the instruction and its scope.
  void run();

  // Where input `index` is read from, and output `index` lies after run() (an output that
  // overwrites an input lies in it; others are valid until the next run() of any executor of the store).
  TensorView input(int index) const;
  TensorView output(int index) const;
  TensorView output(std::string_view name) const;  // InternalError where there is none

  // Sees each result as it is made, in the order of the schedule; empty: nobody. For finding the
  // first tensor that went bad. The graph is the one whose value it is: that of the executable, or a
  // region of a loop or branch.
  using Observer = std::function<void(const Graph&, Value, const TensorView&)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  // While it is set, each run() notes there when its steps ran, and replays no recordings; nothing is waited for.
  // Null: nobody notes. See core/runtime/timeline.h.
  void set_timeline(Timeline* timeline) { timeline_ = timeline; }

  // With `profile`: seconds spent per op name, "wait OP" for collectives, "start OP"; summed over
  // runs.
  std::map<std::string, double> profile() const;

  // With `profile`: the collectives as they ran, in the order of their starts; summed over runs.
  struct MeasuredCollective {
    int region = 0, instruction = -1;
    int64_t runs = 0;
    double in_flight_seconds = 0;  // from start to the end of the wait
    double waited_seconds = 0;     // of that, exposed: nothing else ran on this rank
  };
  std::vector<MeasuredCollective> collectives() const;

  // How many of the steps are replayed from recordings, and in how many recordings.
  struct Captured {
    int64_t steps = 0, recordings = 0;
  };
  Captured captured() const;
  // Steps that the host takes part in at each run, by name: what keeps them from being captured.
  std::map<std::string, int64_t> host_steps() const;

  const Executable& executable() const { return executable_; }

 private:
  struct Bound;    // a step with its addresses
  struct Segment;  // steps that are captured together
  class NamedRange;  // around what is submitted, where the backend has ranges

  void create_communicators();
  void allocate_arenas();
  void place_buffers();
  void compute_constants();
  void bind_steps();
  void bind_call(Bound& bound, const CollectiveStart& step);
  void bind_step(Bound& bound, const Step& step);
  void bind_control(Bound& bound, const Step& step);
  void prepare_kernels();
  void find_segments();
  bool needs_host(const Bound& bound) const;
  void start_as(const TensorView& to, const TensorView& from);
  size_t run_segment(Segment& segment);
  size_t run_at(size_t step);  // returns the step that follows
  void run_all();
  void run_all_timed();
  size_t run_timed(size_t step);
  void name_ranges();
  void measure(Bound& bound, double begin, double end);
  void run_step(Bound& bound);
  size_t run_control(size_t step);
  size_t leave(size_t end_step);  // what is to be done where a loop or branch ends
  void check_uniform(const Bound& control, int64_t value);
  void observe(const Bound& bound);
  void poison_freed(size_t step);
  void poison(void* memory, int64_t bytes);
  void poison_all();
  [[noreturn]] void fail(size_t step) const;

  const Executable& executable_;
  Backend& backend_;
  World* world_;
  int64_t device_;
  BufferStore& store_;
  ExecutorOptions options_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::byte* scratch_ = nullptr;
  std::byte* symmetric_ = nullptr;
  std::byte* constants_ = nullptr;
  std::vector<TensorView> views_;  // one per buffer
  std::vector<Bound> bound_;
  std::vector<Segment> segments_;
  std::vector<int> segment_at_;  // step -> segment that begins there, or -1; empty: nothing is captured
  std::vector<std::vector<int>> freed_after_;  // step -> root buffers; with poison_freed
  std::map<std::string, int> profile_slots_;
  std::vector<double> seconds_;
  size_t step_ = 0;  // that runs
  std::byte* compared_ = nullptr;  // for check_uniform: s64 values own, largest, smallest
  Observer observer_;
  Timeline* timeline_ = nullptr;
  std::vector<std::string> range_names_;  // step -> name; empty: the backend has no ranges
};

}  // namespace tessera
