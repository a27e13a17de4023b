// The training loop of one rank: data, steps, evaluation, checkpoints, metrics, and a clean end.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/communicator.h"
#include "launch/engine/compiled_job.h"
#include "launch/engine/rank_device.h"
#include "launch/profile/profile_options.h"
#include "launch/profile/profile_summary.h"

namespace tessera {

struct TrainSummary {
  int64_t first_step = 0;         // where this run began (0, or the checkpoint's)
  int64_t steps = 0;              // optimizer steps done in all
  std::vector<double> losses;     // of this run's steps
  std::optional<double> eval_loss;  // nats per token, the last evaluation
  double seconds = 0;             // of training steps
  double tokens_per_second = 0;   // median over this run's steps
  bool stopped_on_request = false;  // saved and to be requeued
  std::string checkpoint;         // path of the last one saved; "" where none was
  std::optional<ProfileReport> profile;  // of rank 0; where one was asked for
};

// Collective: every rank of the device's world calls it with the same job. Rank 0 writes the output folder.
// Throws UserError where data, disk or peers fail, and where the loss stops being finite.
TrainSummary train(const std::shared_ptr<const CompiledJob>& job, RankDevice& device,
                   const ProfileOptions& profile = {});

}  // namespace tessera
