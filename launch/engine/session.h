// One rank's running job: its shards in memory, and the graphs that work on them.
//
// Parameters, moments and accumulators are persistent buffers that all graphs of the job share; a
// step reads and overwrites them in place. Nothing is allocated after construction.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/runtime/backend.h"
#include "core/runtime/communicator.h"
#include "core/runtime/executor.h"
#include "launch/checkpoint/tensor_slice.h"
#include "launch/data/text_dataset.h"
#include "launch/engine/compiled_job.h"

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
  Session(std::shared_ptr<const CompiledJob> job, Backend& backend, World& world);
  ~Session();

  const CompiledJob& job() const { return *job_; }

  // Random parameters, the same on every mesh; zero moments.
  void initialise();

  // The state of the job as logical tensors (parameters and moments, without padding) and this
  // rank's boxes of them. Of replicas one rank owns each, so `owned_slices` cover all exactly once.
  std::vector<TensorSpec> state_specs() const;
  std::vector<TensorTarget> state_targets();
  std::vector<TensorSlice> owned_slices();

  // One optimizer step: train.accumulate microbatches, then the update. `step` counts from 0.
  StepResult train_step(int64_t step, double rate, const ReadRows& read);

  EvaluationSums evaluate(const ReadRows& read, int64_t batch);

  // Runs the microbatches of a step again, checking every value on its way, after a step whose loss
  // or norm was not finite (such a step leaves parameters and moments as they were). The name of
  // the first tensor of this rank that is not finite; "" where all are.
  std::string find_bad_tensor(const ReadRows& read);

 private:
  struct StateTensor;

  void add_state(const Executable& executable);
  void feed(Executor& executor, const ReadRows& read, int64_t micro);
  void zero_accumulators();
  void write_scalar(Executor& executor, const char* name, double value);
  double read_scalar(Executor& executor, const char* name) const;

  std::shared_ptr<const CompiledJob> job_;
  Backend& backend_;
  World& world_;
  std::vector<StateTensor> state_;
  std::unique_ptr<BufferStore> store_;
  std::unique_ptr<Executor> step_, accumulate_, evaluate_;
  TokenBatch batch_;
};

}  // namespace tessera
