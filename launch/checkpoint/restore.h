// Finds the newest good checkpoint and loads it onto any mesh; all ranks load the same one.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/communicator.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/tensor_slice.h"

namespace tessera {

struct RestoreRequest {
  // Tried in this order; rank 0's list holds for all ranks. See list_checkpoints, find_checkpoints.
  std::vector<CheckpointEntry> candidates = {};
  // Every tensor of the job, on all ranks alike: what check_same_model compares.
  std::span<const TensorSpec> model = {};
  // The boxes that this rank needs.
  std::span<const TensorTarget> targets = {};
  // Called on every rank before tensors are read; may throw UserError to refuse the checkpoint (a
  // config that must not change), which ends the search.
  std::function<void(const CheckpointInfo&)> accept = {};
};

struct Restored {
  std::string path;
  CheckpointInfo info;
  std::vector<std::string> skipped;  // why each newer one was passed over
};

// Collective; `world` may be null. A damaged checkpoint is passed over with a warning (by rank 0)
// that names file and tensor. nullopt where there are no candidates; UserError on every rank where
// all are damaged, or one is of another model. Targets may have been written in part when it
// throws.
std::optional<Restored> restore_checkpoint(const RestoreRequest& request, World* world = nullptr);

}  // namespace tessera
