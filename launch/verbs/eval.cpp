#include <iostream>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/mpi_world.h"
#include "launch/checkpoint/checkpoint_folder.h"
#include "launch/checkpoint/restore.h"
#include "launch/config/load.h"
#include "launch/data/corpus_entropy.h"
#include "launch/engine/job_data.h"
#include "launch/engine/memory_fit.h"
#include "launch/engine/rank_device.h"
#include "launch/engine/session.h"
#include "launch/trainer/evaluation.h"
#include "launch/verbs/open_run.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

struct EvalReport {
  std::string checkpoint;
  int64_t step = 0;
  double loss = 0;
  int64_t targets = 0;
};

JobConfig load(const EvalArguments& arguments, const CheckpointInfo& info, int64_t devices) {
  return load_job_text(info.config_text, arguments.run,
                       {.sharding_file = arguments.sharding_file,
                        .mesh = arguments.mesh.empty() && devices == 1 ? "1" : arguments.mesh,
                        .sets = arguments.sets, .device_count = devices});
}

EvalReport evaluate_rank(const JobConfig& job, const std::string& checkpoint, World& inner) {
  RankDevice device(job.device, job.train.threads, inner);
  device.check_products(job.train);
  World& world = device.world();
  TextData data = open_job_data(job, world);
  if (!data.heldout) throw_user_error("there is no held-out text: data.holdout is 0 and data.eval_paths is empty");
  const auto compiled = compile_job(job, kernel_table(job.device));
  check_memory_fits(*compiled, device);
  Session session(compiled, device.backend(), world);
  const std::vector<TensorSpec> model = session.state().specs();
  const std::vector<TensorTarget> targets = session.state().targets();
  const auto restored =
      restore_checkpoint({.candidates = find_checkpoints(checkpoint), .model = model, .targets = targets}, &world);
  TESSERA_CHECK(restored.has_value(), "the checkpoint is gone");
  return {restored->path, restored->info.step, evaluate_dataset(session, *data.heldout), data.heldout->targets()};
}

void print(const EvalArguments& arguments, const EvalReport& report) {
  if (arguments.json != "-")
    std::cout << report.checkpoint << ": held-out loss " << report.loss << " nats per token ("
              << bits_of_nats(report.loss) << " bits), " << report.targets << " tokens held out" << std::endl;
  if (arguments.json.empty()) return;
  const nlohmann::json json = {{"checkpoint", report.checkpoint}, {"step", report.step},
                               {"loss", report.loss}, {"heldout_tokens", report.targets}};
  write_report(arguments.json, json.dump(2));
}

}  // namespace

int run_eval(const EvalArguments& arguments) {
  const CheckpointReader found = open_run(arguments.run, arguments.step);
  if (arguments.virtual_devices > 0) {
    const JobConfig job = load(arguments, found.info(), arguments.virtual_devices);
    EvalReport report;
    run_thread_ranks(static_cast<int>(arguments.virtual_devices), [&](World& world) {
      EvalReport mine = evaluate_rank(job, found.path(), world);
      if (world.rank() == 0) report = std::move(mine);
    });
    print(arguments, report);
    return 0;
  }
  const std::unique_ptr<World> world = create_mpi_world();
  const EvalReport report = evaluate_rank(load(arguments, found.info(), world->size()), found.path(), *world);
  if (world->rank() == 0) print(arguments, report);
  return 0;
}

}  // namespace tessera
