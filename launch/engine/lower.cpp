#include "launch/engine/lower.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/compile/compile.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/expand_fp8.h"
#include "core/passes/fuse_cross_entropy.h"
#include "core/passes/fuse_residual_norms.h"
#include "core/passes/join_updates.h"
#include "core/passes/pass_runner.h"
#include "core/passes/product_epilogues.h"
#include "core/passes/product_scales.h"
#include "core/passes/split_complex.h"

namespace tessera {
namespace {

// The scheduler's simulated machine, from the cost model's.
CompileOptions compile_options(const Mesh& mesh, const LowerOptions& options) {
  const MachineModel machine = machine_model(options.machine_profile);
  CompileOptions compile;
  compile.memory_bytes = options.memory_bytes;
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

// Those that touch almost no data are harmless and left out.
std::vector<std::string> slow_ops_of(const Executable& executable) {
  const auto flops_of = [](const Graph& graph, const Instruction& instruction) {
    return with_call(graph, instruction, [&](const OpCall& call) {
      return flop_count(*instruction.op, call, Graph::result_types(instruction));
    });
  };
  double all_flops = 0;
  for (const Instruction& instruction : executable.graph.instructions)
    all_flops += flops_of(executable.graph, instruction);
  std::vector<std::string> named;
  for (const Executable::Fallback& fallback : executable.reference_kernels) {
    const Graph& graph = executable.graph_of(fallback.region);
    const Instruction& instruction = graph.instructions[static_cast<size_t>(fallback.instruction)];
    int64_t elements = 0;
    for (const ResultInfo& result : instruction.results) elements += result.type.elements();
    if (flops_of(graph, instruction) < 1e-3 * all_flops && elements < 4096) continue;
    named.push_back(cat(describe_step(executable, fallback.region, fallback.instruction), " ", instruction.results[0].type,
                        fallback.refusals.empty() ? "" : cat(" (", join(fallback.refusals, "; "), ")")));
  }
  return named;
}

void warn_of_slow_ops(const CompiledGraph& compiled, bool strict) {
  const std::vector<std::string>& named = compiled.slow_ops;
  if (named.empty()) return;
  const size_t shown = std::min<size_t>(named.size(), 5);
  const std::string text =
      cat(named.size(), " ops of graph \"", compiled.executable->graph.name, "\" run on slow reference kernels: ",
          join(std::vector(named.begin(), named.begin() + static_cast<std::ptrdiff_t>(shown)), ", "),
          named.size() > shown ? ", ..." : "");
  if (strict) throw_config_error("--strict: ", text);
  log_warning("warning: ", text);
}

// Shows the passes of one graph to the observer of the whole.
auto observer_of(const Graph& graph, const LowerOptions& options) {
  return [&options, name = graph.name](std::string_view pass, const Graph& after) {
    if (options.observe) options.observe(name, std::string(pass), after);
  };
}

}  // namespace

Graph simplify_built(const Graph& source, const LowerOptions& options) {
  const auto observe = observer_of(source, options);
  PassRunner passes({.verify = options.verify, .observe = observe});
  Graph graph = source;
  auto run = [&](std::string_view pass, Graph (*function)(const Graph&)) {
    graph = passes.run(pass, GraphStage::built, graph, function);
  };
  observe("build", graph);
  run("expand_fp8", expand_fp8_products);  // scales are of whole tensors
  run("simplify", simplify_algebra);  // products of bf16 give f32 gradients
  run("fold", [](const Graph& whole) { return fold_constants(whole); });
  run("merge_common", merge_common_subexpressions);
  run("remove_dead", eliminate_dead_code);
  return graph;
}

CompiledGraph lower(const Graph& source, const MeshPtr& mesh, const KernelTable& kernels,
                    const LowerOptions& options) {
  CompiledGraph result;
  const auto observe = observer_of(source, options);
  // One program for every device of the mesh, with collectives, on local shapes.
  Graph graph = partition(source, mesh, options.sharding,
                          {.machine = machine_model(options.machine_profile), .bucket_bytes = options.bucket_bytes,
                           .strict = options.strict, .verify = options.verify, .observe = observe,
                           .propagated = options.propagated},
                          &result.partition);
  PassRunner passes({.verify = options.verify, .observe = observe});
  auto run = [&](std::string_view pass, const std::function<Graph(const Graph&)>& function) {
    graph = passes.run(pass, GraphStage::local, graph, function);
  };
  // Complex arithmetic is done on parts, which kernels and fusion know.
  run("split_complex", split_complex);
  run("merge_common_local", merge_common_subexpressions);
  run("remove_dead_local", eliminate_dead_code);
  // Products of f8 operands scale their sums themselves, and so on.
  run("fuse_product_scales", [&](const Graph& whole) { return fuse_product_scales(whole, kernels); });
  // Gradients are added to their accumulators by the products that make them.
  run("accumulate_products", accumulate_products);
  // Products add biases and apply GELU themselves where the device's can.
  graph = passes.run("fuse_product_epilogues", GraphStage::local, graph,
                     [&](const Graph& local) { return fuse_product_epilogues(local, kernels); });
  // Where no shards of the vocabulary are combined, loss and gradient are one pass over the logits.
  run("fuse_cross_entropy", [&](const Graph& whole) { return fuse_cross_entropy(whole, kernels); });
  // Norms add the residuals that are left to elementwise ops by then.
  run("fuse_residual_norms", [&](const Graph& whole) { return fuse_residual_norms(whole, kernels); });
  // The optimizer updates all tensors in one kernel.
  run("join_updates", [&](const Graph& whole) { return join_updates(whole, kernels); });
  // Chains of elementwise ops become one kernel each.
  run("fuse_elementwise", fuse_elementwise);
  // Kernels, order of steps, memory.
  result.executable =
      std::make_shared<const Executable>(compile(std::move(graph), kernels, compile_options(*mesh, options)));
  result.slow_ops = slow_ops_of(*result.executable);
  warn_of_slow_ops(result, options.strict);
  return result;
}

}  // namespace tessera
