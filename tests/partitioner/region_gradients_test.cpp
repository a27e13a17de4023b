// Gradients of programs with control flow, partitioned: equal to the whole ones after every pass.
// (That the whole ones are right is shown by finite differences in tests/autodiff.)
#include <gtest/gtest.h>

#include "core/ir/text.h"
#include "core/ops/sharding.h"
#include "core/passes/dead_code.h"
#include "core/passes/inline_calls.h"
#include "tests/autodiff/gradient_programs.h"
#include "tests/ir/random_regions.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera {
namespace {

using testing::check_every_pass;
using testing::gradient_graph;
using testing::mesh_of;
using testing::RandomRegions;

GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }

ShardingConfig config_of(const std::vector<std::pair<std::string, std::vector<std::vector<std::string>>>>& tensors) {
  ShardingConfig config;
  for (const auto& [name, dims] : tensors) {
    ShardingOverride override;
    override.tensor_regex = name;
    override.dims = dims;
    config.overrides.push_back(override);
  }
  return config;
}

TEST(PartitionedGradients, OfRandomRegions) {
  const MeshPtr mesh = mesh_of("a=2,b=2");
  const std::vector<ShardingConfig> configs = {
      config_of({{"in\\.x", {{"a"}, {}}}, {"in\\.w", {{}, {"b"}}}}),
      config_of({{"in\\.x", {{"a"}, {"b"}}}, {"in\\.w", {{"b"}, {}}}, {"in\\.b", {{"b"}}}}),
  };
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto policy = static_cast<RematPolicy>(seed % 3);
    Graph graph = gradient_graph(RandomRegions(seed, {.steps = 4}).program(), policy, /*with_loss=*/true);
    if (seed % 2) graph = eliminate_dead_code(inline_calls(graph));
    const std::string problem =
        check_every_pass(graph, mesh, configs[seed % configs.size()], {}, 1e-9, seed);
    ASSERT_EQ(problem, "") << "seed " << seed;
  }
}

// A loop with a ring shift inside a manual computation over a; w lies on b, which is automatic.
TEST(PartitionedGradients, OfALoopInAManualComputation) {
  const MeshPtr mesh = mesh_of("a=2,b=2");
  const AxisList a{mesh->axis("a")};
  const TensorType w{DType::f64, {6, 6}};
  Graph callee, graph;
  callee.mesh = graph.mesh = mesh;
  Builder c(callee), b(graph);
  const Value cx = c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value cw = c.input(InputKind::data, "w", w);
  c.output(testing::shifting_loop(c, cx, cw, a), "y");
  const Value gx = b.input(InputKind::data, "in.x", {DType::f64, {4, 6}});
  const Value gw = b.input(InputKind::data, "in.w", w);
  Sharding cut(mesh, 2, true), open(mesh, 2, true);
  cut.dims[0].axes = a;
  const Value y = ops::manual_computation(b, share(callee), {gx, gw}, a, {cut, open}, {cut})[0];
  b.output(ops::reduce_all(b, ops::sine(b, y)), "loss");
  for (RematPolicy policy : {RematPolicy::none, RematPolicy::full}) {
    const Graph whole = gradient_graph(graph, policy, /*with_loss=*/true);
    EXPECT_EQ(check_every_pass(whole, mesh, config_of({{"in\\.w", {{}, {"b"}}}}), {}, 1e-9), "");
  }
}

}  // namespace
}  // namespace tessera
