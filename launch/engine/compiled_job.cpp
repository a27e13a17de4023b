#include "launch/engine/compiled_job.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/compile/compile.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/pass_runner.h"
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

// The scheduler's simulated machine, from the cost model's.
CompileOptions compile_options(const Mesh& mesh, const config::TrainConfig& train, const CompileJobOptions& options) {
  const MachineModel machine = machine_model(options.machine_profile);
  CompileOptions compile;
  compile.memory_bytes = train.memory_bytes;
  compile.cost.flops_f64 = machine.flops(DType::f64);
  compile.cost.flops_f32 = machine.flops(DType::f32);
  compile.cost.flops_narrow = machine.flops(DType::bf16);
  compile.cost.memory_bytes_per_second = machine.memory_bandwidth;
  compile.cost.kernel_seconds = machine.kernel_latency;
  compile.cost.links = {{"inside host", machine.inside_host.latency, machine.inside_host.bandwidth},
                        {"between hosts", machine.between_hosts.latency, machine.between_hosts.bandwidth}};
  for (int axis = 0; axis < mesh.rank(); ++axis)
    compile.cost.link_of_axis.push_back(machine.crosses_hosts(mesh, mesh.axis(axis)) ? 1 : 0);
  return compile;
}

// Ops that the reference interpreter would compute are slow. Those that touch almost no data are
// harmless; the others are named, and refused under --strict.
void check_fallbacks(const Executable& executable, bool strict) {
  double all_flops = 0;
  std::vector<std::pair<double, const Executable::Fallback*>> fallbacks;
  for (const Instruction& instruction : executable.graph.instructions)
    all_flops += with_call(executable.graph, instruction, [&](const OpCall& call) {
      return flop_count(*instruction.op, call, Graph::result_types(instruction));
    });
  std::vector<std::string> named;
  for (const Executable::Fallback& fallback : executable.reference_kernels) {
    const Graph& graph = executable.graph_of(fallback.region);
    const Instruction& instruction = graph.instructions[static_cast<size_t>(fallback.instruction)];
    int64_t elements = 0;
    for (const ResultInfo& result : instruction.results) elements += result.type.elements();
    const double flops = with_call(graph, instruction, [&](const OpCall& call) {
      return flop_count(*instruction.op, call, Graph::result_types(instruction));
    });
    if (flops < 1e-3 * all_flops && elements < 4096) continue;
    named.push_back(cat(describe_step(executable, fallback.region, fallback.instruction), " ", instruction.results[0].type,
                        fallback.refusals.empty() ? "" : cat(" (", join(fallback.refusals, "; "), ")")));
  }
  if (named.empty()) return;
  const size_t shown = std::min<size_t>(named.size(), 5);
  const std::string text =
      cat(named.size(), " ops of graph \"", executable.graph.name, "\" run on slow reference kernels: ",
          join(std::vector(named.begin(), named.begin() + static_cast<std::ptrdiff_t>(shown)), ", "),
          named.size() > shown ? ", ..." : "");
  if (strict) throw_config_error("--strict: ", text);
  log_warning("warning: ", text);
}

}  // namespace

CompiledGraph lower(const Graph& source, const JobConfig& job, const MeshPtr& mesh, const KernelTable& kernels,
                    const CompileJobOptions& options) {
  CompiledGraph result;
  auto observe = [&](std::string_view pass, const Graph& graph) {
    if (options.observe) options.observe(source.name, std::string(pass), graph);
  };
  PassRunner passes({.observe = observe});
  Graph graph = source;
  auto run = [&](std::string_view pass, GraphStage stage, Graph (*function)(const Graph&)) {
    graph = passes.run(pass, stage, graph, function);
  };
  observe("build", graph);
  // What the model builders wrote plainly becomes smaller; products of bf16 give f32 gradients.
  run("simplify", GraphStage::built, simplify_algebra);
  run("fold", GraphStage::built, [](const Graph& whole) { return fold_constants(whole); });
  run("merge_common", GraphStage::built, merge_common_subexpressions);
  run("remove_dead", GraphStage::built, eliminate_dead_code);
  // One program for every device of the mesh, with collectives, on local shapes.
  graph = partition(graph, mesh, job.sharding,
                    {.machine = machine_model(options.machine_profile), .bucket_bytes = job.train.bucket_bytes,
                     .strict = options.strict, .observe = observe, .propagated = options.propagated},
                    &result.partition);
  run("merge_common_local", GraphStage::local, merge_common_subexpressions);
  run("remove_dead_local", GraphStage::local, eliminate_dead_code);
  // Gradients are added to their accumulators by the products that make them.
  run("accumulate_products", GraphStage::local, accumulate_products);
  // Chains of elementwise ops become one kernel each.
  run("fuse_elementwise", GraphStage::local, fuse_elementwise);
  // Kernels, order of steps, memory.
  result.executable = std::make_shared<const Executable>(compile(std::move(graph), kernels, compile_options(*mesh, job.train, options)));
  check_fallbacks(*result.executable, options.strict);
  return result;
}

CompiledGraph compile_graph(const JobConfig& job, const std::string& graph, const KernelTable& kernels,
                            const CompileJobOptions& options) {
  return lower(build_graph(job, graph), job, build_mesh(job), kernels, options);
}

std::shared_ptr<const CompiledJob> compile_job(const JobConfig& job, const KernelTable& kernels,
                                               const CompileJobOptions& options) {
  auto compiled = std::make_shared<CompiledJob>();
  compiled->config = job;
  compiled->mesh = build_mesh(job);
  compiled->step_config = step_config(job);
  compiled->parameters = models::parameter_specs(compiled->step_config.model, job.train.compute_dtype);
  compiled->step = compile_graph(job, "step", kernels, options);
  // The step holds every tensor of the job, so what is missed there is missed everywhere.
  compiled->warnings = compiled->step.partition.warnings;
  compiled->warnings.insert(compiled->warnings.begin(), job.warnings.begin(), job.warnings.end());
  if (job.train.accumulate > 1) compiled->accumulate = compile_graph(job, "accumulate", kernels, options);
  compiled->evaluate = compile_graph(job, "evaluate", kernels, options);
  return compiled;
}

}  // namespace tessera
