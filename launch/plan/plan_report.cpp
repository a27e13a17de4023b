#include "launch/plan/plan_report.h"

#include <algorithm>
#include <future>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/ir/text.h"
#include "launch/engine/rank_device.h"
#include "launch/engine/step_config.h"
#include "launch/plan/collective_plan.h"
#include "launch/plan/memory_by_kind.h"
#include "partitioner/explain.h"

namespace tessera {
namespace {

// Thrown from the observer to leave the pipeline once its pass was seen.
struct PassReached {};

CompileJobOptions compile_options(const PlanOptions& options) {
  return {.machine_profile = options.profile, .strict = options.strict, .log_warnings = false};
}

// The mesh axes that cut activations along anything else than the batch.
std::set<std::string> tensor_parallel_axes(const ShardingConfig& sharding) {
  std::set<std::string> axes;
  for (const AxisRule& rule : sharding.activation_rules)
    if (rule.logical != "batch") axes.insert(rule.mesh_axes.begin(), rule.mesh_axes.end());
  return axes;
}

void describe_mesh(const JobConfig& job, const MachineModel& machine, const Mesh& mesh, PlanReport& report) {
  report.mesh = cat(mesh);
  report.devices = mesh.devices();
  report.devices_per_host = machine.devices_per_host;
  const std::set<std::string> tensor = tensor_parallel_axes(job.sharding);
  for (int a = 0; a < mesh.rank(); ++a) {
    const MeshAxis& axis = mesh.axes()[static_cast<size_t>(a)];
    report.axes.push_back({axis.name, axis.size, axis.size > 1 && machine.crosses_hosts(mesh, mesh.axis(a)),
                           tensor.count(axis.name) > 0});
    if (report.axes.back().crosses_hosts && report.axes.back().is_tensor_parallel)
      report.warnings.push_back(cat("tensor-parallel axis \"", axis.name, "\" of size ", axis.size,
                                    " crosses hosts of ", machine.devices_per_host,
                                    " devices: its collectives are on the critical path; make it smaller, or the "
                                    "last axis of the mesh"));
  }
}

std::vector<FallbackPlan> fallbacks_of(const Executable& executable) {
  std::map<std::pair<std::string, std::string>, int64_t> counts;
  for (const Executable::Fallback& fallback : executable.reference_kernels) {
    const Instruction& instruction = executable.instruction_of(fallback.region, fallback.instruction);
    ++counts[{std::string(instruction.op->name), join(fallback.refusals, "; ")}];
  }
  std::vector<FallbackPlan> fallbacks;
  for (const auto& [key, count] : counts) fallbacks.push_back({key.first, key.second, count});
  return fallbacks;
}

void add_warnings(const PartitionReport& partition, std::vector<std::string>& warnings) {
  for (const std::string& warning : partition.warnings)
    if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) warnings.push_back(warning);
}

// The times of a whole training step, and how well it uses the machine.
void predict(const JobConfig& job, const MachineModel& machine, PlanReport& report) {
  report.predicted_step_seconds = report.graph.seconds * static_cast<double>(report.graph.runs);
  report.exposed_seconds = report.graph.exposed_seconds * static_cast<double>(report.graph.runs);
  if (report.accumulate) {
    report.predicted_step_seconds += report.accumulate->seconds * static_cast<double>(report.accumulate->runs);
    report.exposed_seconds += report.accumulate->exposed_seconds * static_cast<double>(report.accumulate->runs);
  }
  if (report.predicted_step_seconds <= 0) return;
  const double flops = report.flops_per_token * static_cast<double>(report.tokens_per_step);
  report.mfu = flops / (machine.flops(job.train.compute_dtype) * static_cast<double>(report.devices) *
                        report.predicted_step_seconds);
}

// Microbatches that one run of `graph` sees, and how often it runs in a step.
void count_tokens(const JobConfig& job, PlanReport& report) {
  const bool whole_step = report.graph.graph == "step";
  const int64_t rows = whole_step ? job.train.global_batch : job.train.microbatch * job.batch_shards;
  report.tokens_per_step = rows * job.train.sequence_length;
}

}  // namespace

PlanReport make_plan(const JobConfig& job, const PlanOptions& options) {
  const double start = steady_seconds();
  const std::string profile = options.profile.empty() ? default_machine_profile(job.device) : options.profile;
  const MachineModel machine = machine_model(profile);
  PlanReport report;
  report.job = job.job_path;
  report.profile = profile;
  // Compiling is a pure function: two graphs, two threads.
  std::future<CompiledGraph> before;
  if (options.graph == "step" && job.train.accumulate > 1)
    before = std::async(std::launch::async,
                        [&] { return compile_graph(job, "accumulate", kernel_table(job.device), compile_options(options)); });
  const CompiledGraph compiled = compile_graph(job, options.graph, kernel_table(job.device), compile_options(options));
  const Executable& executable = *compiled.executable;
  describe_mesh(job, machine, *executable.graph.mesh, report);

  const models::ModelConfig model = model_config(job);
  report.parameters = models::parameter_count(models::parameter_specs(model, job.train.compute_dtype));
  report.flops_per_token = models::train_flops_per_token(model, job.train.sequence_length);
  // Two thirds of training is the backward pass.
  if (options.graph == "evaluate" || options.graph == "predict") report.flops_per_token /= 3;

  const std::string middle = cat("block.", job.model.layers / 2);
  report.graph = plan_of_graph(executable, machine, middle);
  if (before.valid()) {
    const CompiledGraph accumulate = before.get();
    report.accumulate = plan_of_graph(*accumulate.executable, machine, middle);
    report.accumulate->runs = job.train.accumulate - 1;
    report.partition_seconds = accumulate.partition.seconds;
    add_warnings(accumulate.partition, report.warnings);
  }
  count_tokens(job, report);
  predict(job, machine, report);

  report.shardings = compiled.partition.shardings;
  report.memory_per_device = memory_by_kind(executable);
  report.saved_activations = saved_activations(executable);
  report.conflicts = compiled.partition.conflicts;
  add_warnings(compiled.partition, report.warnings);
  report.padded = compiled.partition.padded;
  report.fallbacks = fallbacks_of(executable);
  report.partition_seconds = std::max(report.partition_seconds, compiled.partition.seconds);
  report.plan_seconds = steady_seconds() - start;
  return report;
}

std::string graph_after(const JobConfig& job, const PlanOptions& options, const std::string& pass) {
  std::vector<std::string> passes;
  std::string text;
  CompileJobOptions compile = compile_options(options);
  compile.observe = [&](const std::string&, const std::string& name, const Graph& graph) {
    passes.push_back(name);
    if (name != pass) return;
    text = print_graph(graph);
    throw PassReached();
  };
  try {
    compile_graph(job, options.graph, kernel_table(job.device), compile);
  } catch (const PassReached&) {
    return text;
  }
  const std::string near = nearest_name(pass, passes);
  throw_config_error("--after: there is no pass \"", pass, "\"", near.empty() ? "" : cat("; did you mean \"", near, "\"?"),
                     " The passes are, in order: ", join(passes));
}

std::pair<std::string, std::string> split_tensor(const std::string& tensor) {
  const size_t space = tensor.rfind(' ');
  if (space == std::string::npos) return {tensor, ""};
  return {tensor.substr(0, space), tensor.substr(space + 1)};
}

std::string explain_tensors(const JobConfig& job, const PlanOptions& options,
                            const std::string& question) {
  std::string text;
  CompileJobOptions compile = compile_options(options);
  compile.propagated = [&](const Graph& graph, const Origins& origins,
                           const std::vector<Conflict>& conflicts) {
    text = explain(graph, origins, conflicts, question);
    throw PassReached();
  };
  try {
    compile_graph(job, options.graph, kernel_table(job.device), compile);
  } catch (const PassReached&) {
  }
  return text;
}

}  // namespace tessera
