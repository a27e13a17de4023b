// Sharding groups, user priorities, open dims, and how gradients follow their parameters.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/structure.h"
#include "partitioner/annotate.h"
#include "partitioner/propagate.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

using Kind = ShardingGroup::Kind;

struct GroupProgram : MeshProgram {
  using MeshProgram::MeshProgram;

  void group(int64_t id, Kind kind, std::initializer_list<Value> members) {
    for (Value member : members) graph.info(member).groups.push_back({id, kind});
  }
  Graph run(const ShardingConfig& config = {}) {
    origins = {};
    return propagate(annotate(graph, mesh, config, &origins), origins).graph;
  }
  std::string at(Value value, const ShardingConfig& config = {}) {
    return cat(run(config).sharding(value).closed());
  }
  std::string refusal(const ShardingConfig& config = {}) {
    try {
      run(config);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "(accepted)";
  }

  Origins origins;
};

TEST(Groups, ShardAsMakesOneLying) {
  GroupProgram p("x=2,y=2");
  const Value a = p.input("a", {4, 4}, "[{x}, {?}]");
  const Value b = p.input("b", {4, 4}, "[{?}, {y}]");
  p.group(1, Kind::as, {a, b});
  const Graph graph = p.run();
  EXPECT_EQ(cat(graph.sharding(a).closed()), "[{x}, {y}]");
  EXPECT_EQ(cat(graph.sharding(b).closed()), "[{x}, {y}]");
}

TEST(Groups, ShardLikeLetsShardingsFlow) {
  GroupProgram p("x=2,y=2");
  const Value a = p.input("a", {4, 4}, "[{x}, {}]");
  const Value b = p.input("b", {8, 4}, "[{?}, {?}]");
  p.group(1, Kind::like, {a, b});
  EXPECT_EQ(p.at(b), "[{x}, {}]");
  EXPECT_EQ(p.origins.explain(p.graph, b).substr(0, 45), "dim 0 {x} because it is in group 1 with \"a\" (");
}

TEST(Groups, ContradictionsAreRefused) {
  {
    GroupProgram p("x=2,y=2");
    const Value a = p.input("a", {4, 4}, "[{x}, {}]"), b = p.input("b", {4, 4}, "[{}, {y}]");
    p.group(3, Kind::as, {a, b});
    EXPECT_EQ(p.refusal(),
              "sharding group 3 (shard_as) contradicts itself: \"a\" (%0) is demanded [{x}, {}], "
              "\"b\" (%1) [{}, {y}]; annotate one of them, or use shard_like");
  }
  {
    GroupProgram p("x=2");
    const Value a = p.input("a", {4, 4}, "[{x}, {}]"), b = p.input("b", {4}, "[{?}]");
    p.group(3, Kind::like, {a, b});
    EXPECT_EQ(p.refusal(),
              "sharding group 3 (shard_like) has \"a\" (%0) of f32[4,4] and \"b\" (%1) of f32[4]; "
              "its members must have one rank");
  }
  {
    GroupProgram p("x=2");
    const Value a = p.input("a", {4}, "[{x}]"), b = p.input("b", {4}, "[{?}]");
    p.group(3, Kind::like, {a});
    p.group(3, Kind::as, {b});
    EXPECT_EQ(p.refusal(),
              "sharding group 3 is shard_as for one of its members and shard_like for \"b\" (%1); "
              "give them different ids");
  }
}

TEST(Groups, OfTheConfigByName) {
  GroupProgram p("x=2,y=2");
  const Value a = p.input("table", {4, 4}, "[{x}, {}]", InputKind::parameter);
  const Value b = p.b.annotate(ops::tanh(p.b, p.input("c", {4, 4}, "[{}, {}]")), {}, "head");
  (void)a;
  ShardingConfig config;
  config.groups = {{{"table", "he.d"}, true}};
  EXPECT_EQ(p.at(b, config), "[{x}, {}]");
}

TEST(Groups, AGradientFollowsAParameterThatOnlyAnOverridePlaced) {
  GroupProgram p("x=2");
  const Value w = p.b.input(InputKind::parameter, "w", {DType::f32, {4, 8}});
  const Value in = p.input("in", {2, 4}, "[{}, {}]");
  const Value loss = ops::reduce_all(p.b, ops::tanh(p.b, ops::matmul(p.b, in, w)));
  const Value gradient = gradients(p.b, loss, std::vector<Value>{w})[0];
  ShardingConfig config;
  config.overrides = {{"w", {{}, {"x"}}}};
  EXPECT_EQ(p.at(gradient, config), "[{}, {x}]");
}

TEST(Priority, GoesBeforeTheOrderOfOps) {
  // Both inputs want x on their own dim of the sum; the one that is later in the program but of
  // lower priority number wins.
  for (const bool second_first : {false, true}) {
    GroupProgram p("x=2");
    const Value a = p.input("a", {4, 4}, second_first ? "[{x}p1, {}p1]" : "[{x}, {}]");
    const Value b = p.input("b", {4, 4}, second_first ? "[{}, {x}]" : "[{}p1, {x}p1]");
    const Value sum = ops::add(p.b, a, b);
    EXPECT_EQ(p.at(sum), second_first ? "[{}, {x}]" : "[{x}, {}]");
  }
}

TEST(Priority, OfRulesAndOverridesIsTheDims) {
  GroupProgram p("x=2");
  const Value a = p.b.input(InputKind::parameter, "a", {DType::f32, {4, 4}}, {"rows", "columns"});
  const Value b = p.b.input(InputKind::parameter, "b", {DType::f32, {4, 4}}, {"", ""});
  const Value sum = ops::add(p.b, a, b);
  ShardingConfig config = config_of("rows=x", "");
  config.overrides = {{"b", {{}, {"x"}}}};
  config.overrides[0].priority = 1;
  EXPECT_EQ(p.at(sum, config), "[{x}, {}]");
  config.overrides[0].priority = 0;
  config.parameter_rules[0].priority = 2;
  EXPECT_EQ(p.at(sum, config), "[{}, {x}]");
}

TEST(OpenDims, OfAnOverrideMayBeShardedFurther) {
  GroupProgram p("x=2,y=2");
  const Value a = p.input("a", {8, 4}, "[{x, y}, {}]");
  const Value h = p.b.annotate(ops::tanh(p.b, a), {}, "h");
  ShardingConfig config;
  config.overrides = {{"h", {{"x", "?"}, {}}}};
  EXPECT_EQ(p.at(h, config), "[{x,y}, {}]");
  config.overrides = {{"h", {{"x"}, {}}}};
  EXPECT_EQ(p.at(h, config), "[{x}, {}]");
}

TEST(BadShardings, AreRefusedWithOpAndLocation) {
  GroupProgram p("x=2,y=2");
  const Value a = p.input("a", {8, 4}, "[{}, {}]");
  p.b.push_scope("block.0");
  const Value h = ops::tanh(p.b, a);
  auto with = [&](const Sharding& sharding) {
    p.graph.info(h).sharding = sharding;
    return p.refusal();
  };
  Sharding twice(p.mesh, 2);
  twice.dims[0].axes = twice.dims[1].axes = {p.mesh->axis("x")};
  const std::string text = with(twice);
  EXPECT_NE(text.find("sharding of tanh %1"), std::string::npos) << text;
  EXPECT_NE(text.find("block.0"), std::string::npos) << text;
  EXPECT_EQ(with(Sharding(p.mesh, 1)).substr(0, 36), "sharding [{}] of tanh %1 (tanh in bl");
  EXPECT_NE(with(Sharding(mesh_of("x=4"), 2)).find("is for mesh <x=4>"), std::string::npos);
  Sharding uneven(p.mesh, 2), unknown(p.mesh, 2);
  uneven.dims[0].axes = {{0, 1, 3}};
  EXPECT_NE(with(uneven).find("1 x 3 does not divide the size 2 of mesh axis \"x\""),
            std::string::npos);
  unknown.dims[0].axes = {{5, 1, 2}};
  EXPECT_NE(with(unknown).find("uses mesh axis number 5"), std::string::npos);
  EXPECT_THROW(parse_sharding(p.mesh, "[{z}, {}]"), ConfigError);
  EXPECT_THROW(parse_sharding(p.mesh, "[{x, x}, {}]"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh_of("m=6"), "[{m:(1)4}]"), ConfigError);
  EXPECT_THROW(parse_sharding(p.mesh, "[{}, {}] partial{sum: x} partial{max: y}"), ConfigError);
}

}  // namespace
}  // namespace tessera::testing
