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

struct ExecutorOptions {
  // Fills memory with NaN bits when its last reader is done, so that a read of a freed buffer
  // shows. Host memory only.
  bool poison_freed = false;
  // Measure seconds per kind of step.
  bool profile = false;
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
  // overwrites an input lies in it; others are valid until the next run()).
  TensorView input(int index) const;
  TensorView output(int index) const;
  TensorView output(std::string_view name) const;  // InternalError where there is none

  // Sees each result as it is made, in the order of the schedule; empty: nobody. For finding the
  // first tensor that went bad.
  using Observer = std::function<void(Value, const TensorView&)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  // With `profile`: seconds spent per op name, "wait OP" for collectives, "start OP"; summed over
  // runs.
  std::map<std::string, double> profile() const;

  const Executable& executable() const { return executable_; }

 private:
  struct Bound;  // a step with its addresses

  void create_communicators();
  void allocate_arenas();
  void place_buffers();
  void compute_constants();
  void bind_steps();
  void bind_call(Bound& bound, const CollectiveStart& step);
  void run_step(Bound& bound);
  void run_rank_data(const Bound& bound);
  void observe(const Bound& bound);
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
  bool owns_symmetric_ = false;
  std::vector<TensorView> views_;  // one per buffer
  std::vector<Bound> bound_;
  std::vector<std::vector<int>> freed_after_;  // step -> root buffers; with poison_freed
  std::map<std::string, int> profile_slots_;
  std::vector<double> seconds_;
  Observer observer_;
};

}  // namespace tessera
