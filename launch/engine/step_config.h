// From a job's config to what the model builders take.
#pragma once

#include "launch/config/job_config.h"
#include "models/training_step.h"

namespace tessera {

// Global microbatch = train.microbatch x batch_shards sequences. Throws ConfigError where a no_decay
// expression is malformed or matches no parameter.
models::StepConfig step_config(const JobConfig& job);

models::ModelConfig model_config(const JobConfig& job);

}  // namespace tessera
