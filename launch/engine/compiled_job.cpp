#include "launch/engine/compiled_job.h"

#include "core/base/error.h"
#include "launch/engine/rank_device.h"
#include "launch/engine/step_config.h"

namespace tessera {
namespace {

Graph build_graph(const JobConfig& job, const std::string& name) {
  const models::StepConfig config = step_config(job);
  if (name == "step") return models::build_step(config, job.train.accumulate > 1);
  if (name == "accumulate") return models::build_accumulate(config);
  if (name == "evaluate") return models::build_evaluate(config);
  if (name == "predict") return models::build_predict(config);
  throw_config_error("there is no graph \"", name, "\"; a job has step, accumulate, evaluate and predict");
}

MeshPtr build_mesh(const JobConfig& job) {
  std::vector<MeshAxis> axes;
  for (const MeshAxisConfig& axis : job.sharding.axes) axes.push_back({axis.name, axis.size});
  return std::make_shared<const Mesh>(std::move(axes));
}

// How a job's graphs are lowered.
LowerOptions lower_options(const JobConfig& job, const CompileJobOptions& options) {
  return {.sharding = job.sharding,
          .machine_profile =
              options.machine_profile.empty() ? default_machine_profile(job.device) : options.machine_profile,
          .bucket_bytes = job.train.bucket_bytes,
          .memory_bytes = job.train.memory_bytes,
          .strict = options.strict,
          .observe = options.observe,
          .propagated = options.propagated};
}

}  // namespace

CompiledGraph compile_graph(const JobConfig& job, const std::string& graph, const KernelTable& kernels,
                            const CompileJobOptions& options) {
  const LowerOptions how = lower_options(job, options);
  return lower(simplify_built(build_graph(job, graph), how), build_mesh(job), kernels, how);
}

std::shared_ptr<const CompiledJob> compile_job(const JobConfig& job, const KernelTable& kernels,
                                               const CompileJobOptions& options) {
  auto compiled = std::make_shared<CompiledJob>();
  compiled->config = job;
  compiled->mesh = build_mesh(job);
  compiled->step_config = step_config(job);
  compiled->parameters = models::parameter_specs(compiled->step_config.model, job.train.compute_dtype,
                                                 job.train.parameter_dtype);
  compiled->step = compile_graph(job, "step", kernels, options);
  // The step holds every tensor of the job, so what is missed there is missed everywhere.
  compiled->warnings = compiled->step.partition.warnings;
  compiled->warnings.insert(compiled->warnings.begin(), job.warnings.begin(), job.warnings.end());
  if (job.train.accumulate > 1) compiled->accumulate = compile_graph(job, "accumulate", kernels, options);
  compiled->evaluate = compile_graph(job, "evaluate", kernels, options);
  return compiled;
}

std::vector<const Executable*> executables_of(const CompiledJob& job) {
  std::vector<const Executable*> all = {job.step.executable.get()};
  if (job.accumulate) all.push_back(job.accumulate->executable.get());
  all.push_back(job.evaluate.executable.get());
  return all;
}

}  // namespace tessera
