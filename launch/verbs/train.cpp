#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/thread_world.h"
#include "kernels/comm/launcher.h"
#include "kernels/comm/mpi_world.h"
#include "launch/checkpoint/agreement.h"
#include "launch/command_line.h"
#include "launch/config/load.h"
#include "launch/engine/rank_device.h"
#include "launch/trainer/stop_request.h"
#include "launch/trainer/trainer.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

JobConfig load(const TrainArguments& arguments, int64_t devices) {
  LoadOptions options{.sharding_file = arguments.job.sharding_file, .mesh = arguments.job.mesh,
                      .sets = arguments.job.sets, .device_count = devices};
  if (!arguments.resume.empty()) options.sets.push_back(cat("checkpoint.resume=", arguments.resume));
  if (!arguments.progress.empty()) options.sets.push_back(cat("metrics.progress=", arguments.progress));
  return load_job(arguments.job.job, options);
}

// Where the ranks write what their last collectives were, should one of them hang.
void name_flight_folder(const JobConfig& job) {
  setenv("TESSERA_FLIGHT_RECORD", cat(job.output_dir, "/flight").c_str(), /*overwrite=*/0);
}

TrainSummary train_rank(const std::shared_ptr<const CompiledJob>& job, World& world, const ProfileOptions& profile) {
  RankDevice device(job->config.device, job->config.train.threads, world);
  device.check_products(job->config.train);
  return train(job, device, profile);
}

int report(const TrainArguments& arguments, const TrainSummary& summary) {
  if (!arguments.json.empty()) {
    nlohmann::json json = {{"first_step", summary.first_step}, {"steps", summary.steps},
                           {"losses", summary.losses}, {"seconds", summary.seconds},
                           {"tokens_per_second", summary.tokens_per_second},
                           {"stopped_on_request", summary.stopped_on_request},
                           {"checkpoint", summary.checkpoint}};
    if (summary.eval_loss) json["eval_loss"] = *summary.eval_loss;
    if (summary.profile) json["profile"] = nlohmann::json::parse(profile_json(*summary.profile));
    write_report(arguments.json, json.dump(2));
  }
  return summary.stopped_on_request ? kExitRequeue : kExitDone;
}

int train_virtual(const TrainArguments& arguments, const ProfileOptions& profile) {
  if (launched_by_mpi() && create_mpi_world()->size() > 1)
    throw_config_error("--virtual-devices ", arguments.virtual_devices,
                       " runs all ranks as threads of one process, but an MPI launcher started several; "
                       "leave out one of the two");
  const JobConfig job = load(arguments, arguments.virtual_devices);
  if (arguments.check) {
    std::cout << print_effective(job) << std::flush;
    return kExitDone;
  }
  const auto compiled = compile_job(job, kernel_table(job.device), {.strict = arguments.strict});
  name_flight_folder(job);
  TrainSummary summary;
  run_thread_ranks(static_cast<int>(arguments.virtual_devices),
                   [&](World& world) {
                     TrainSummary mine = train_rank(compiled, world, profile);
                     if (world.rank() == 0) summary = std::move(mine);
                   },
                   {.timeout_seconds = job.train.timeout_seconds});
  return report(arguments, summary);
}

struct LoadedJob {
  JobConfig config;
  std::shared_ptr<const CompiledJob> compiled;  // null under --check
};

// Each rank reads and compiles the job for itself. What fails on one rank ends all of them, and rank 0
// says it: nothing to go on with is an exit code.
std::optional<int> load_on_all(const TrainArguments& arguments, World& world, LoadedJob& job) {
  const std::vector<Outcome> outcomes = run_on_all(&world, [&] {
    job.config = load(arguments, world.size());
    if (!arguments.check)
      job.compiled = compile_job(job.config, kernel_table(job.config.device), {.strict = arguments.strict});
    return std::string();
  });
  const std::optional<Outcome> failure = common_failure(outcomes);
  if (!failure) return std::nullopt;
  if (world.rank() == 0) log_error("tessera: ", failure->error);
  return failure->failure == Failure::config ? kExitUsage : kExitFailed;
}

// What every rank has thrown alike is said once.
int end_together(World& world, const UserError& error, int code) {
  if (world.rank() == 0) log_error("tessera: ", error.what());
  flush_log();
  world.barrier();
  return code;
}

// Ranks as processes.
int train_processes(const TrainArguments& arguments, const ProfileOptions& profile) {
  const std::unique_ptr<World> world = create_mpi_world();
  try {
    LoadedJob job;
    if (const std::optional<int> code = load_on_all(arguments, *world, job)) return *code;
    if (arguments.check) {
      if (world->rank() == 0) std::cout << print_effective(job.config) << std::flush;
      return kExitDone;
    }
    name_flight_folder(job.config);
    world->set_timeout(job.config.train.timeout_seconds);
    const TrainSummary summary = train_rank(job.compiled, *world, profile);
    if (world->rank() == 0) return report(arguments, summary);
    return summary.stopped_on_request ? kExitRequeue : kExitDone;
  } catch (const ConfigError& error) {
    return end_together(*world, error, kExitUsage);
  } catch (const AgreedError& error) {
    return end_together(*world, error, kExitFailed);
  } catch (const std::exception& error) {
    world->abort(error.what());
    throw;
  }
}

}  // namespace

int run_train(const TrainArguments& arguments) {
  watch_stop_signals();
  const StandardOutputForReport keep(arguments.json);
  const ProfileOptions profile = parse_profile_options(arguments.profile, arguments.profile_steps);
  return arguments.virtual_devices > 0 ? train_virtual(arguments, profile) : train_processes(arguments, profile);
}

}  // namespace tessera
