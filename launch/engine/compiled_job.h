// A job as programs: the graphs of a training step, partitioned for the mesh and compiled.
//
// All of it is a pure function of the job and the kernel table, so every process makes the same one,
// and ranks as threads share it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/config/job_config.h"
#include "launch/engine/lower.h"
#include "models/training_step.h"

namespace tessera {

struct CompiledJob {
  JobConfig config;
  MeshPtr mesh;
  models::StepConfig step_config;
  std::vector<models::ParameterSpec> parameters;
  CompiledGraph step;
  std::optional<CompiledGraph> accumulate;  // where train.accumulate > 1
  CompiledGraph evaluate;
  std::vector<std::string> warnings;  // for rank 0 to print
};

// All graphs of the job, which share their inputs by name.
std::vector<const Executable*> executables_of(const CompiledJob& job);

struct CompileJobOptions {
  std::string machine_profile;  // "": default_machine_profile of the job's device
  // An op of weight that falls to a reference kernel is a ConfigError, and so are an implicit reshard
  // above sharding.max_implicit_reshard_bytes and much padding.
  bool strict = false;
  bool log_warnings = true;  // false: the caller shows the partition's and the fallbacks itself
  // Sees the graph named `graph` after each pass.
  std::function<void(const std::string& graph, const std::string& pass, const Graph&)> observe;
  // See PartitionOptions::propagated.
  std::function<void(const Graph&, const Origins&, const std::vector<Conflict>&)> propagated;
};

// Throws ConfigError where the job cannot be laid on its mesh (an override without a tensor, what
// `strict` refuses, ...).
std::shared_ptr<const CompiledJob> compile_job(const JobConfig& job, const KernelTable& kernels,
                                               const CompileJobOptions& options = {});

// One graph alone: "step", "accumulate", "evaluate" or "predict".
CompiledGraph compile_graph(const JobConfig& job, const std::string& graph, const KernelTable& kernels,
                            const CompileJobOptions& options = {});

}  // namespace tessera
