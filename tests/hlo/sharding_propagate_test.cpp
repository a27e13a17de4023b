// The sharding of every instruction after propagation, in both notations.
#include <gtest/gtest.h>

#include <map>

#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/import.h"

namespace tessera::hlo {
namespace {

struct Printed {
  std::string tile, named;
};

std::map<std::string, std::vector<Printed>> shardings_of(const std::string& text) {
  std::map<std::string, std::vector<Printed>> printed;
  for (const InstructionSharding& entry : propagate_shardings(import(parse(text)))) {
    for (const Sharding& leaf : entry.leaves)
      printed[entry.instruction].push_back(
          {print(tile_sharding(leaf)), print(named_sharding(leaf))});
  }
  return printed;
}

TEST(ShardingPropagate, FlowsThroughProducts) {
  auto of = shardings_of(R"(
HloModule m
ENTRY main {
  x = f32[8,16] parameter(0), sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
  w = f32[16,32] parameter(1), sharding={devices=[1,2,2]<=[2,2]T(1,0) last_tile_dim_replicate}
  y = f32[8,32] dot(x, w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT z = f32[8,32] tanh(y)
})");
  EXPECT_EQ(of.at("x")[0].tile, "{devices=[2,1,2]<=[4] last_tile_dim_replicate}");
  EXPECT_EQ(of.at("x")[0].named, "{mesh['x0'=2,'x1'=2], [{'x0'}, {}]}");
  EXPECT_EQ(of.at("w")[0].tile, "{devices=[1,2,2]<=[2,2]T(1,0) last_tile_dim_replicate}");
  EXPECT_EQ(of.at("y")[0].tile, "{devices=[2,2]<=[4]}");
  EXPECT_EQ(of.at("z")[0].tile, "{devices=[2,2]<=[4]}");
}

TEST(ShardingPropagate, NamesOfTheModuleAndTuples) {
  auto of = shardings_of(R"(
HloModule m, frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<["data"=2, "model"=2]>}}
ENTRY main {
  x = f32[8,16] parameter(0), sharding={devices=[4,1]<=[4]}, frontend_attributes={xla.sdy.sharding="#sdy.sharding<@mesh, [{\"model\", ?}, {?}]>"}
  y = f32[8,16] negate(x)
  s = f32[8,16] custom-call(y), custom_call_target="Sharding", sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}
  ROOT t = (f32[8,16], f32[8,16]) tuple(y, s), sharding={{devices=[1,4]<=[4]}, {devices=[4,1]<=[4]}}
})");
  EXPECT_EQ(of.at("x")[0].named, "{mesh['data'=2,'model'=2], [{'model'}, {'data'}]}");
  EXPECT_EQ(of.at("y")[0].tile, "{devices=[2,2]<=[2,2]T(1,0)}");
  EXPECT_EQ(of.at("s")[0].named, "{mesh['data'=2,'model'=2], [{'data'}, {}]}");
  ASSERT_EQ(of.at("t").size(), 2u);
  EXPECT_EQ(of.at("t")[0].tile, "{devices=[1,4]<=[4]}");
  EXPECT_EQ(of.at("t")[1].tile, "{devices=[4,1]<=[4]}");
}

TEST(ShardingPropagate, GroupsAndLoops) {
  auto of = shardings_of(R"(
HloModule m
body {
  p = (s32[], f32[8]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  one = s32[] constant(1)
  j = s32[] add(i, one)
  v = f32[8] get-tuple-element(p), index=1
  n = f32[8] negate(v)
  ROOT t = (s32[], f32[8]) tuple(j, n)
}
cond {
  p = (s32[], f32[8]) parameter(0)
  i = s32[] get-tuple-element(p), index=0
  three = s32[] constant(3)
  ROOT c = pred[] compare(i, three), direction=LT
}
ENTRY main {
  x = f32[8] parameter(0), sharding={devices=[2]<=[2]}
  y = f32[8] parameter(1)
  a = f32[8] custom-call(x), custom_call_target="Sharding", sharding={unknown shard_as 0}
  b = f32[8] custom-call(y), custom_call_target="Sharding", sharding={unknown shard_as 0}
  zero = s32[] constant(0)
  in = (s32[], f32[8]) tuple(zero, b)
  loop = (s32[], f32[8]) while(in), condition=cond, body=body
  out = f32[8] get-tuple-element(loop), index=1
  ROOT e = f32[8] add(out, a)
})");
  EXPECT_EQ(of.at("a")[0].tile, "{devices=[2]<=[2]}");
  EXPECT_EQ(of.at("b")[0].tile, "{devices=[2]<=[2]}");
  EXPECT_EQ(of.at("y")[0].tile, "{devices=[2]<=[2]}");
  ASSERT_EQ(of.at("loop").size(), 2u);
  EXPECT_EQ(of.at("loop")[0].tile, "{replicated}");
  EXPECT_EQ(of.at("loop")[1].tile, "{devices=[2]<=[2]}");
  EXPECT_EQ(of.at("out")[0].tile, "{devices=[2]<=[2]}");
}

TEST(ShardingPropagate, OtherOrdersOfDevicesStayAtTheBoundary) {
  auto of = shardings_of(R"(
HloModule m
ENTRY main {
  x = f32[8] parameter(0), sharding={devices=[4]0,1,3,2}
  y = f32[8] parameter(1), sharding={devices=[4]<=[4]}
  ROOT z = f32[8] add(x, y), sharding={devices=[4]<=[4]}
})");
  EXPECT_EQ(of.at("x")[0].tile, "{devices=[4]0,1,3,2}");
  EXPECT_EQ(of.at("y")[0].tile, "{devices=[4]<=[4]}");
  EXPECT_EQ(of.at("z")[0].tile, "{devices=[4]<=[4]}");
}

}  // namespace
}  // namespace tessera::hlo
