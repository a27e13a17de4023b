// Whole GPT and Llama steps with the CPU kernels on threads, in place and with reused memory, equal
// the reference interpreter on the unpartitioned graph.
#include <gtest/gtest.h>

#include "core/ir/interpreter.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/runtime/thread_run.h"
#include "kernels/cpu/register.h"
#include "models/training_step.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

models::StepConfig tiny(models::Family family, DType compute,
                        RematPolicy remat = RematPolicy::none) {
  models::StepConfig config;
  models::ModelConfig& model = config.model;
  model.family = family;
  model.layers = 2;
  model.embed = 16;
  model.heads = 4;
  model.kv_heads = family == models::Family::llama ? 2 : 4;
  model.head_dim = 4;
  model.mlp = 32;
  model.vocab = 30;
  model.padded_vocab = 32;
  model.context = 8;
  model.tied_embeddings = family == models::Family::gpt2;
  config.compute = compute;
  config.remat = remat;
  config.clip_norm = 1;
  config.z_loss = 1e-3;
  config.batch = 8;
  config.length = 8;
  return config;
}

std::vector<HostTensor> inputs_of(const Graph& graph) {
  std::vector<HostTensor> inputs = testing::random_inputs(graph, 5);
  for (size_t i = 0; i < inputs.size(); ++i) {
    HostTensor& tensor = inputs[i];
    const std::string& name = graph.info(graph.inputs[i].value).name;
    for (int64_t e = 0; e < tensor.elements(); ++e) {
      if (is_integer(tensor.dtype()))
        tensor.set_int(e, (e * 7 + 3 * static_cast<int64_t>(i)) % 30);
      else if (name == models::names::kWeights)
        tensor.set_real(e, e % 5 != 0);
      else if (graph.inputs[i].kind == InputKind::scalar)
        tensor.set_real(e, 0.05);
      else if (graph.inputs[i].kind == InputKind::optimizer)
        tensor.set_real(e, 0.1 * tensor.get_real(e));
    }
  }
  return inputs;
}

Graph lowered(const Graph& source, const testing::Layout& layout) {
  Graph graph =
      eliminate_dead_code(merge_common_subexpressions(fold_constants(simplify_algebra(source))));
  graph = testing::partitioned(graph, layout);
  graph = accumulate_products(eliminate_dead_code(merge_common_subexpressions(graph)));
  return fuse_elementwise(graph);
}

const testing::Layout kGptLayouts[] = {
    {"data=1", "", "batch=data", ""},
    {"data=2", "", "batch=data", ""},
    {"data=2", "", "batch=data", "embed=data"},
    {"data=4", "embed=data", "batch=data", "embed=data"},
    {"model=2", "heads=model kv_heads=model mlp=model vocab=model",
     "heads=model kv_heads=model mlp=model vocab=model", ""},
    {"model=2", "heads=model kv_heads=model mlp=model vocab=model",
     "heads=model kv_heads=model mlp=model vocab=model length=model", ""},
    {"data=2,model=2", "embed=data heads=model kv_heads=model mlp=model vocab=model",
     "batch=data heads=model kv_heads=model mlp=model vocab=model", ""},
    {"data=2,model=4", "embed=data mlp=model vocab=model",
     "batch=data mlp=model vocab=model embed=model", ""},
};

void check(const Graph& graph, const testing::Layout& layout, double tolerance) {
  SCOPED_TRACE(cat(graph.name, " on ", layout.mesh, ", parameters ", layout.parameters,
                   ", activations ", layout.activations));
  KernelTable kernels;
  register_cpu_kernels(kernels);
  const std::vector<HostTensor> inputs = inputs_of(graph);
  const std::vector<HostTensor> expected = interpret(graph, inputs);
  const Graph local = lowered(graph, layout);
  const std::vector<HostTensor> actual = run_on_threads(local, kernels, inputs);
  for (size_t o = 0; o < expected.size(); ++o) {
    EXPECT_LE(max_relative_error(actual[o], expected[o], 1e-3), tolerance) << graph.outputs[o].name;
  }
  const Executable executable = compile(local, kernels);
  EXPECT_EQ(executable.copies, 0) << "a parameter or moment is not updated in place";
  const int64_t planned = executable.memory.symmetric_bytes + executable.memory.scratch_bytes;
  // The bound in bytes of 64: the smallest tensors here are of a few bytes.
  EXPECT_LE(planned, executable.memory.live_lower_bound * 11 / 10 + 1024);
}

TEST(GptStep, EveryLayoutEqualsTheInterpreterInF64) {
  for (const models::Family family : {models::Family::gpt2, models::Family::llama}) {
    const Graph graph = models::build_step(tiny(family, DType::f64), false);
    for (const auto& layout : kGptLayouts) check(graph, layout, 1e-9);
  }
}

TEST(GptStep, AccumulationAndRematerialisationEqualTheInterpreter) {
  const models::StepConfig config = tiny(models::Family::gpt2, DType::f64, RematPolicy::full);
  for (const size_t layout : {1, 3, 6}) {
    check(models::build_step(config, true), kGptLayouts[layout], 1e-9);
    check(models::build_accumulate(config), kGptLayouts[layout], 1e-9);
    check(models::build_evaluate(config), kGptLayouts[layout], 1e-9);
  }
}

TEST(GptStep, SinglePrecisionIsClose) {
  const Graph graph = models::build_step(tiny(models::Family::llama, DType::f32), false);
  for (const size_t layout : {0, 2, 6}) check(graph, kGptLayouts[layout], 2e-3);
}

}  // namespace
}  // namespace tessera
