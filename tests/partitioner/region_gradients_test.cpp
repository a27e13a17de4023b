// Gradients of programs with control flow, partitioned: equal to the whole ones after every pass.
// (That the whole ones are right is shown by finite differences in tests/autodiff.)
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/ir/text.h"
#include "core/ops/sharding.h"
#include "core/passes/dead_code.h"
#include "core/passes/inline_calls.h"
#include "tests/ir/random_regions.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera {
namespace {

using testing::check_every_pass;
using testing::mesh_of;
using testing::RandomRegions;

GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }

Graph gradient_graph(Graph graph, RematPolicy policy) {
  Builder b(graph);
  const Value loss = graph.outputs[static_cast<size_t>(graph.find_output("loss"))].value;
  std::vector<Value> wrt;
  for (const GraphInput& input : graph.inputs) wrt.push_back(input.value);
  const std::vector<Value> made = gradients(b, loss, wrt, {policy});
  graph.outputs.clear();
  b.output(loss, "loss");
  for (size_t i = 0; i < wrt.size(); ++i)
    b.output(made[i].valid() ? made[i] : ops::zeros_like(b, wrt[i]), cat("d", i));
  return graph;
}

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
    Graph graph = gradient_graph(RandomRegions(seed, {.steps = 4}).program(), policy);
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
  const TensorType k{DType::s32, {}}, x{DType::f64, {2, 6}}, w{DType::f64, {6, 6}};
  Graph body, condition, callee, graph;
  for (Graph* each : {&body, &condition, &callee, &graph}) each->mesh = mesh;
  Builder bb(body), cb(condition), c(callee), b(graph);
  std::vector<Value> v;
  for (const TensorType& type : {k, x, w}) {
    v.push_back(bb.input(InputKind::data, cat("x", v.size()), type));
    cb.input(InputKind::data, cat("x", v.size()), type);
  }
  bb.output(ops::add_scalar(bb, v[0], 1), "k");
  const Value mixed = ops::tanh(bb, ops::matmul(bb, v[1], v[2]));
  bb.output(ops::add(bb, mixed, ops::shift(bb, mixed, a, 1, true)), "x");
  bb.output(v[2], "w");
  const Value count = condition.inputs[0].value;
  cb.output(ops::compare(cb, count, ops::constant_like(cb, count, 3), CompareDirection::lt), "c");
  const Value cx = c.input(InputKind::data, "x", x), cw = c.input(InputKind::data, "w", w);
  c.output(ops::while_loop(c, {ops::constant(c, 0, k), cx, cw}, share(condition), share(body), 3)[1], "y");
  const Value gx = b.input(InputKind::data, "in.x", {DType::f64, {4, 6}});
  const Value gw = b.input(InputKind::data, "in.w", w);
  Sharding cut(mesh, 2, true), open(mesh, 2, true);
  cut.dims[0].axes = a;
  const Value y = ops::manual_computation(b, share(callee), {gx, gw}, a, {cut, open}, {cut})[0];
  b.output(ops::reduce_all(b, ops::sine(b, y)), "loss");
  for (RematPolicy policy : {RematPolicy::none, RematPolicy::full}) {
    const Graph whole = gradient_graph(graph, policy);
    EXPECT_EQ(check_every_pass(whole, mesh, config_of({{"in\\.w", {{}, {"b"}}}}), {}, 1e-9), "");
  }
}

}  // namespace
}  // namespace tessera
