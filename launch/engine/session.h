// One rank's running job: its shards in memory, and the graphs that work on them.
//
// All graphs share the persistent buffers of a StateStore; a step reads and overwrites them in
// place. Nothing is allocated after construction.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/communicator.h"
#include "core/runtime/executor.h"
#include "core/runtime/timeline.h"
#include "launch/data/text_dataset.h"
#include "launch/engine/compiled_job.h"
#include "launch/engine/state_store.h"

namespace tessera {

struct StepResult {
  double loss = 0;       // nats per token, over the global batch
  double grad_norm = 0;  // of the mean gradient, before clipping
};

struct EvaluationSums {
  double loss = 0;    // nats, summed over tokens
  double weight = 0;  // tokens
};

// Fills rows [row_begin, row_begin + rows) of global microbatch number `micro`.
using ReadRows = std::function<void(int64_t micro, int64_t row_begin, int64_t rows, TokenBatch& batch)>;

class Session {
 public:
  // Collective: all ranks construct their sessions together. `world`'s rank is the device.
  Session(std::shared_ptr<const CompiledJob> job, Backend& backend, World& world,
          const ExecutorOptions& options = {});

  const CompiledJob& job() const { return *job_; }
  StateStore& state() { return state_; }

  // Random parameters, the same on every mesh; zero moments.
  void initialise();

  // One optimizer step: train.accumulate microbatches, then the update. `step` counts from 0.
  StepResult train_step(int64_t step, double rate, const ReadRows& read);

  // Sums over one batch of train.microbatch x batch_shards rows (micro is 0).
  EvaluationSums evaluate(const ReadRows& read);

  // With options.profile: seconds per kind of step, summed over all steps so far.
  std::map<std::string, double> profile() const;

  // While it is set, steps and evaluations are noted there, and run without recordings. Null: nobody notes.
  void set_timeline(Timeline* timeline);

  // Runs the microbatches of a step again, checking every value on its way, after a step whose loss
  // or norm was not finite (such a step leaves parameters and moments as they were). The name of
  // the first tensor of this rank that is not finite; "" where all are. Collective.
  std::string find_bad_tensor(const ReadRows& read);

 private:
  void feed(Executor& executor, const ReadRows& read, int64_t micro);

  std::shared_ptr<const CompiledJob> job_;
  Backend& backend_;
  World& world_;
  StateStore state_;
  std::unique_ptr<Executor> step_, accumulate_, evaluate_;
  TokenBatch batch_;          // the rows read last ...
  int64_t batch_start_ = -1;  // ... and the first of them
  Timeline* timeline_ = nullptr;
  int64_t last_step_ = 0;  // for a replay of its draws
};

}  // namespace tessera
