// Models cut over space equal those on one device, forward and backward, and what moves is halos.
#include <gtest/gtest.h>

#include <map>

#include "core/ir/interpreter.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/thread_run.h"
#include "models/spatial.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera {
namespace {

using models::ConformerConfig;
using models::UNet3dConfig;
using testing::check_every_pass;
using testing::config_of;
using testing::mesh_of;

// Instructions of the local graph by name, for those that communicate.
std::map<std::string, int> communication(const Graph& graph, const MeshPtr& mesh,
                                         const ShardingConfig& config) {
  const Graph local = partition(graph, mesh, config);
  std::map<std::string, int> counts;
  for (const Instruction& instruction : local.instructions)
    if (instruction.op->communicates) ++counts[std::string(instruction.op->name)];
  return counts;
}

UNet3dConfig small_unet() {
  UNet3dConfig config;
  config.depth = 8;
  config.height = 4;
  config.width = 4;
  config.base_features = 2;
  return config;
}

// Large enough that volumes outweigh kernels, as they do; it is planned, not run.
UNet3dConfig large_unet() {
  UNet3dConfig config;
  config.depth = config.height = config.width = 64;
  config.base_features = 8;
  config.levels = 3;
  return config;
}

TEST(Spatial, UNetCutOverDepthEqualsOneDevice) {
  const MeshPtr mesh = mesh_of("space=2");
  const ShardingConfig config = config_of("", "depth=space");
  EXPECT_EQ(check_every_pass(models::unet3d_gradients(small_unet(), DType::f64), mesh, config), "");
}

TEST(Spatial, UNetCutOverDepthAndHeightEqualsOneDevice) {
  const MeshPtr mesh = mesh_of("x=2,y=2");
  const ShardingConfig config = config_of("", "depth=x height=y");
  EXPECT_EQ(check_every_pass(models::unet3d_gradients(small_unet(), DType::f64), mesh, config), "");
}

// Nothing of a volume moves but halos; statistics and gradients of weights are summed.
TEST(Spatial, UNetExchangesHalosAlone) {
  const Graph graph = models::unet3d_gradients(large_unet(), DType::f32);
  for (const auto& [mesh, rules] :
       {std::pair{"space=4", "depth=space"}, std::pair{"x=2,y=4", "depth=x height=y"}}) {
    auto counts = communication(graph, mesh_of(mesh), config_of("", rules));
    EXPECT_GT(counts["shift"], 40) << mesh;
    EXPECT_EQ(counts["all_gather"], 0) << "a volume is gathered on " << mesh;
    EXPECT_EQ(counts["all_to_all"], 0) << mesh;
  }
}

TEST(Spatial, UNetOfAnUnevenDepth) {
  UNet3dConfig config = small_unet();
  config.depth = 6;  // 4 devices hold 2, 2, 2 and 0; the level below 1, 1, 1 and 0
  const Graph graph = models::unet3d_gradients(config, DType::f64);
  EXPECT_EQ(check_every_pass(graph, mesh_of("space=4"), config_of("", "depth=space")), "");
}

TEST(Spatial, ConformerCutOverLengthEqualsOneDevice) {
  const Graph graph = models::conformer_gradients({}, 2, 12, 1, DType::f64);
  for (const char* mesh : {"time=2", "time=4", "data=2,time=2"}) {
    const ShardingConfig config = config_of(
        "", std::string(mesh).starts_with("data") ? "batch=data length=time" : "length=time");
    EXPECT_EQ(check_every_pass(graph, mesh_of(mesh), config), "") << mesh;
    EXPECT_GT(communication(graph, mesh_of(mesh), config)["shift"], 0);
  }
}

// Compiled and run, with planned memory and real messages.
TEST(Spatial, UNetRunsOnThreads) {
  const Graph graph = models::unet3d_gradients(small_unet(), DType::f64);
  const std::vector<HostTensor> inputs = testing::random_inputs(graph, 3);
  const std::vector<HostTensor> expected = interpret(graph, inputs);
  const Graph local = partition(graph, mesh_of("x=2,y=2"), config_of("", "depth=x height=y"));
  const std::vector<HostTensor> made = run_on_threads(local, KernelTable(), inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_LT(testing::error_between(expected[i], made[i]), 1e-10) << graph.outputs[i].name;
}

// A roll written as two slices and a concatenation.
TEST(Spatial, ARolledDimIsOneShift) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {16, 3}}, {"rows", ""});
  const Value y =
      ops::concatenate(b, {ops::slice_dim(b, x, 0, 2, 16), ops::slice_dim(b, x, 0, 0, 2)}, 0);
  b.output(b.annotate(y, {"rows", ""}), "y");
  const ShardingConfig config = config_of("", "rows=x");
  const MeshPtr mesh = mesh_of("x=4");
  EXPECT_EQ(check_every_pass(graph, mesh, config), "");
  const Graph local = partition(graph, mesh, config);
  std::vector<int64_t> sent;
  for (const Instruction& instruction : local.instructions)
    if (instruction.op->communicates) {
      EXPECT_TRUE(instruction.is(ops::kShift)) << instruction.op->name;
      sent.push_back(instruction.results[0].type.bytes());
    }
  EXPECT_EQ(sent, (std::vector<int64_t>{2 * 3 * 8}));
}

}  // namespace
}  // namespace tessera
