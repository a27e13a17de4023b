#include "partitioner/partition.h"

#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/elementwise.h"
#include "core/runtime/sharded_interpreter.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct Scheme {
  const char* name;
  const char* mesh;
  const char* parameters;
  const char* activations;
  const char* optimizer;
};

const Scheme kSchemes[] = {
    {"one device", "data=1", "", "batch=data", ""},
    {"data", "data=4", "", "batch=data", ""},
    {"tensor", "model=4", "mlp=model", "mlp=model", ""},
    {"data x tensor", "data=2,model=2", "mlp=model", "batch=data mlp=model", ""},
    {"zero1", "data=4", "", "batch=data", "mlp=data embed=data"},
    {"fsdp", "data=4", "embed=data mlp=data", "batch=data", ""},
    {"2d", "data=2,model=2", "mlp=model embed=data", "batch=data mlp=model", ""},
    {"2d activations", "data=2,model=2", "mlp=model embed=data", "batch=data mlp=model embed=model",
     ""},
    {"eight devices", "data=2,fsdp=2,model=2", "mlp=model embed=fsdp", "batch=data,fsdp mlp=model",
     ""},
};

// The two-layer perceptron with backward pass and update is the same after every pass.
TEST(Partition, PerceptronIsTheSameAfterEveryPass) {
  for (const Scheme& scheme : kSchemes) {
    PartitionReport report;
    const std::string failure = check_every_pass(
        perceptron(), mesh_of(scheme.mesh),
        config_of(scheme.parameters, scheme.activations, scheme.optimizer), {}, 1e-10, 1, &report);
    EXPECT_TRUE(failure.empty()) << scheme.name << ": " << failure;
    EXPECT_EQ(report.reshard_fallbacks, 0) << scheme.name;
  }
}

TEST(Partition, CollectivesOfThePerceptron) {
  auto collectives = [](const char* mesh, const char* parameters, const char* activations,
                        const char* optimizer = "") {
    PartitionReport report;
    PartitionOptions options;
    options.bucket_bytes = 0;
    partition(perceptron({.batch = 64}), mesh_of(mesh),
              config_of(parameters, activations, optimizer), options, &report);
    return collectives_of(report);
  };
  // Weights of 8 x 16 and 16 x 8 and a bias of 16, in f64; and the loss.
  EXPECT_EQ(collectives("data=4", "", "batch=data"), "all_reduce{data} x4 2184 B");
  EXPECT_EQ(collectives("model=4", "mlp=model", "mlp=model"), "all_reduce{model} x1 4096 B");
  EXPECT_EQ(collectives("data=4", "", "batch=data", "mlp=data embed=data"),
            "all_gather{data} x3 544 B; all_reduce{data} x1 8 B; reduce_scatter{data} x3 2176 B");
  EXPECT_EQ(collectives("data=4", "embed=data mlp=data", "batch=data"),
            "all_gather{data} x4 800 B; all_reduce{data} x1 8 B; reduce_scatter{data} x3 2176 B");
}

TEST(Partition, ReportNamesReasonsMemoryAndWarnings) {
  PartitionReport report;
  partition(perceptron(), mesh_of("data=2,model=2"),
            config_of("mlp=model nothing=data", "batch=data mlp=model"), {}, &report);
  auto reason = [&](const std::string& tensor) -> std::string {
    for (const ShardingReason& one : report.shardings)
      if (one.tensor == tensor) return one.sharding + " " + one.reason;
    return "none";
  };
  EXPECT_EQ(reason("w1 f64[8,16]"),
            "[{}, {model}] dim 1 {model} because parameter rule mlp -> model");
  EXPECT_EQ(reason("w2/v f64[16,8]"),
            "[{model}, {}] dim 0 {model} because parameter rule mlp -> model");
  const std::vector<std::pair<std::string, int64_t>> memory = {
      {"data", 512}, {"parameter", 1088}, {"optimizer", 2176}, {"scalar", 8}};
  EXPECT_EQ(report.memory_per_device, memory);
  EXPECT_EQ(report.warnings,
            std::vector<std::string>{"parameter rule nothing -> data matches no tensor"});
  EXPECT_EQ(report.pass_seconds.size(), partition_passes().size());
  for (size_t i = 0; i < report.pass_seconds.size(); ++i)
    EXPECT_EQ(report.pass_seconds[i].first, partition_passes()[i]);
}

TEST(Partition, AccumulatorsAreNotReduced) {
  // add(accumulator, gradient) stays partial: no collective at all.
  Graph graph = perceptron({.is_trained = false});
  Builder b(graph);
  const Value loss = graph.outputs[0].value;
  const Value w = graph.inputs[2].value;
  const Value gradient = gradients(b, loss, std::vector<Value>{w})[0];
  const Value old =
      b.input(InputKind::accumulator, "accumulator/w1", b.type(gradient), {"embed", "mlp"});
  graph.outputs.clear();
  b.output(ops::add(b, old, gradient), "accumulator/w1", static_cast<int>(graph.inputs.size()) - 1);
  PartitionReport report;
  EXPECT_EQ(check_every_pass(graph, mesh_of("data=4"), config_of("", "batch=data"), {}, 1e-10, 1,
                             &report),
            "");
  EXPECT_EQ(collectives_of(report), "");
}

// Finite differences of the loss against the gradients, both computed on shards.
TEST(Partition, GradientsAgreeWithFiniteDifferencesOnTheShardedProgram) {
  Graph graph = perceptron({.is_trained = false});
  Builder b(graph);
  const std::vector<Value> weights = {graph.inputs[2].value, graph.inputs[4].value};
  const std::vector<Value> grads = gradients(b, graph.outputs[0].value, weights);
  for (size_t i = 0; i < grads.size(); ++i) b.output(grads[i], cat("grad", i));
  const Graph local = partition(graph, mesh_of("data=2,model=2"),
                                config_of("mlp=model embed=data", "batch=data mlp=model"));
  std::vector<HostTensor> inputs = random_inputs(graph, 4);
  const std::vector<HostTensor> outputs = interpret_sharded(local, inputs);
  for (size_t w = 0; w < weights.size(); ++w) {
    HostTensor& weight = inputs[w == 0 ? 2 : 4];
    for (int64_t i = 0; i < weight.elements(); i += 13) {
      const double at = weight.get_real(i), step = 1e-6;
      weight.set_real(i, at + step);
      const double above = interpret_sharded(local, inputs)[0].get_real(0);
      weight.set_real(i, at - step);
      const double below = interpret_sharded(local, inputs)[0].get_real(0);
      weight.set_real(i, at);
      EXPECT_NEAR((above - below) / (2 * step), outputs[1 + w].get_real(i), 1e-7);
    }
  }
}

TEST(Partition, IsDeterministic) {
  auto text = [] {
    return print_graph(partition(perceptron(), mesh_of("data=2,model=2"),
                                 config_of("mlp=model embed=data", "batch=data mlp=model")));
  };
  EXPECT_EQ(text(), text());
}

// One program for all devices: neither its size nor the time to make it depends on their number.
TEST(Partition, TimeDoesNotGrowWithDevices) {
  auto seconds = [](const char* mesh) {
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      PartitionReport report;
      partition(perceptron({.batch = 1 << 14, .embed = 1 << 12, .hidden = 1 << 14}), mesh_of(mesh),
                config_of("mlp=model embed=data", "batch=data mlp=model"), {}, &report);
      best = std::min(best, report.seconds);
    }
    return best;
  };
  const double few = seconds("data=4,model=2"), many = seconds("data=512,model=8");
  EXPECT_LT(many, 2 * few + 0.01);
  EXPECT_LT(many, 1.0);
}

}  // namespace
}  // namespace tessera::testing
