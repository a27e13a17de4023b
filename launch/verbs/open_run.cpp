#include "launch/verbs/open_run.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/checkpoint/checkpoint_folder.h"

namespace tessera {

CheckpointReader open_run(const std::string& path, int64_t step) {
  std::vector<int64_t> steps;
  for (const CheckpointEntry& entry : find_checkpoints(path)) {
    steps.push_back(entry.step);
    if (step >= 0 && entry.step != step) continue;
    try {
      return CheckpointReader(entry.path);
    } catch (const CorruptCheckpoint& error) {
      log_warning(error.what());
    }
  }
  throw_user_error(path, step >= 0 ? cat(" has no whole checkpoint of step ", step) : " has no whole checkpoint",
                   "; there are steps ", join(steps));
}

}  // namespace tessera
