// A trained model on this one process: tokens in, next-token logits out.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/executor.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/engine/compiled_job.h"
#include "launch/engine/rank_device.h"
#include "launch/engine/state_store.h"

namespace tessera {

class Predictor {
 public:
  // Compiles the job of `checkpoint`, with the fields of `sets` replaced, for one device and loads its parameters.
  // Throws UserError where the checkpoint is not of that model.
  explicit Predictor(CheckpointReader& checkpoint, const std::vector<std::string>& sets = {});
  ~Predictor();

  const JobConfig& job() const { return job_; }
  int64_t context() const { return job_.train.sequence_length; }

  // Logits of the token after the last of `tokens`, over the vocabulary without padding. Only the
  // last context() tokens count; at least one is needed. Valid until the next call.
  std::span<const float> next_logits(std::span<const int32_t> tokens);

 private:
  JobConfig job_;
  CompiledGraph graph_;
  std::unique_ptr<World> world_;
  std::unique_ptr<RankDevice> device_;
  std::unique_ptr<StateStore> state_;
  std::unique_ptr<Executor> executor_;
  std::vector<float> logits_;
};

}  // namespace tessera
