#include "partitioner/bucket_collectives.h"

#include <gtest/gtest.h>

#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// What an op's own partition reduces on the way is no shard of a logical tensor: it joins no bucket.
TEST(BucketCollectives, LeavesReductionsInsideAnOpsPartitionAlone) {
  const MeshPtr mesh = mesh_of("x=4");
  Graph local;
  local.mesh = mesh;
  local.is_local = true;
  Builder b(local);
  const AxisList axes = {mesh->axis("x")};
  for (const char* name : {"a", "b", "c"}) {
    const Value input = b.input(InputKind::data, name, {DType::f32, {64}});
    local.info(input).sharding = parse_sharding(mesh, "[{}] partial{sum: x}");
    const Value sum = b.emit(ops::kAllReduce, {input},
                             {{Attr::axes, axes}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{64}}});
    // The first belongs to one device alone; the others are shards.
    if (std::string_view(name) != "a") local.info(sum).sharding = parse_sharding(mesh, "[{}]");
    b.output(sum, name);
  }
  const Graph bucketed = bucket_collectives(local, 1 << 20);
  int reductions = 0, alone = 0;
  for (const Instruction& instruction : bucketed.instructions) {
    if (!instruction.is(ops::kAllReduce)) continue;
    ++reductions;
    alone += !instruction.results[0].sharding;
  }
  EXPECT_EQ(reductions, 2);
  EXPECT_EQ(alone, 1);
}

}  // namespace
}  // namespace tessera::testing
