#include "launch/trainer/kernel_choices.h"

#include "launch/checkpoint/agreement.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/checkpoint_reader.h"

namespace tessera {

std::string saved_kernel_choices(const JobConfig& config, World& world) {
  if (config.device.backend == config::DeviceBackend::cpu) return "";  // which makes none
  if (config.checkpoint.resume == config::ResumeMode::never) return "";
  const Outcome outcome = run_on_first(&world, [&]() -> std::string {
    for (const CheckpointEntry& entry : list_checkpoints(config.output_dir)) {
      try {
        const CheckpointInfo info = CheckpointReader(entry.path).info();
        const auto found = info.determinism.find(kKernelChoices);
        return found == info.determinism.end() ? "" : found->second;
      } catch (const CorruptCheckpoint&) {
        continue;  // the restore that follows says so
      }
    }
    return "";
  });
  if (outcome.failed()) throw_failure(outcome.failure, outcome.error);
  return outcome.payload;
}

}  // namespace tessera
