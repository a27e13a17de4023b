#include "core/runtime/sharded_interpreter.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"

namespace tessera {
namespace {

MeshPtr mesh_of(const char* text) { return std::make_shared<const Mesh>(parse_mesh(text)); }

HostTensor counting(const Shape& shape) {
  HostTensor tensor({DType::f64, shape});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, static_cast<double>(i) + 0.5);
  return tensor;
}

TEST(Shard, CutsBlocksAndAssemblesThemAgain) {
  const MeshPtr mesh = mesh_of("x=2,y=2");
  const HostTensor whole = counting({4, 6});
  const Sharding sharding = parse_sharding(mesh, "[{y}, {x}]");
  const std::vector<HostTensor> shards = shard(whole, sharding, 1);
  ASSERT_EQ(shards.size(), 4u);
  EXPECT_EQ(shards[1].shape(), (Shape{2, 3}));
  EXPECT_EQ(shards[1].get_real(0), 12.5);  // device (x=0, y=1) begins at row 2
  EXPECT_EQ(shards[2].get_real(0), 3.5);   // device (x=1, y=0) begins at column 3
  EXPECT_EQ(assemble(shards, sharding), whole);
}

TEST(Shard, PartialValuesAreRandomAddends) {
  const MeshPtr mesh = mesh_of("x=4");
  const HostTensor whole = counting({3});
  for (const char* text :
       {"[{}] partial{sum: x}", "[{}] partial{max: x}", "[{}] partial{min: x}"}) {
    const Sharding sharding = parse_sharding(mesh, text);
    const std::vector<HostTensor> one = shard(whole, sharding, 1),
                                  other = shard(whole, sharding, 2);
    EXPECT_FALSE(one[1] == other[1]);
    EXPECT_LT(max_relative_error(assemble(one, sharding), whole), 1e-14) << text;
  }
}

TEST(Shard, ReplicasThatDifferAreFound) {
  const MeshPtr mesh = mesh_of("x=2,y=2");
  const Sharding sharding = parse_sharding(mesh, "[{x}]");
  std::vector<HostTensor> shards = shard(counting({4}), sharding, 1);
  shards[3].set_real(0, 99);
  EXPECT_THROW(assemble(shards, sharding), InternalError);
}

// Collectives are carried out, never taken as the identity: a wrong lying is noticed.
TEST(ShardedInterpreter, ACollectiveThatIsNotDoneIsNoticed) {
  Graph graph;
  graph.mesh = mesh_of("x=2");
  Builder b(graph);
  const Value a = b.input(InputKind::data, "a", {DType::f64, {4}});
  graph.info(a).sharding = parse_sharding(graph.mesh, "[{}] partial{sum: x}");
  const Value sum = ops::all_reduce(b, a, {graph.mesh->axis("x")});
  graph.info(sum).sharding = parse_sharding(graph.mesh, "[{}]");
  b.output(sum, "sum");
  const std::vector<HostTensor> inputs = {counting({4})};
  EXPECT_LT(max_relative_error(interpret_sharded(graph, inputs)[0], inputs[0]), 1e-14);

  // Without the all_reduce the devices hold different addends of what claims to be replicated.
  Graph wrong = graph;
  wrong.at(sum).op = &ops::kNegate;
  wrong.at(sum).attributes = {};
  wrong.at(sum).factor_axes.resize(1);
  EXPECT_THROW(interpret_sharded(wrong, inputs), InternalError);
}

TEST(ShardedInterpreter, ObservesEveryValueAssembled) {
  Graph graph;
  graph.mesh = mesh_of("x=2");
  Builder b(graph);
  const Value a = b.input(InputKind::data, "a", {DType::f64, {4}});
  const Value c = ops::negate(b, a);
  for (Value value : {a, c}) graph.info(value).sharding = parse_sharding(graph.mesh, "[{x}]");
  graph.at(c).factor_axes = {{graph.mesh->axis("x")}};
  b.output(c, "c");
  std::vector<HostTensor> seen;
  interpret_sharded(graph, std::vector<HostTensor>{counting({4})},
                    {1, [&](Value, const HostTensor& value) { seen.push_back(value); }});
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0], counting({4}));
  EXPECT_EQ(seen[1].get_real(3), -3.5);
}

}  // namespace
}  // namespace tessera
