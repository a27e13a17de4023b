#include "core/mesh/sharding.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/base/error.h"

namespace tessera {
namespace {

MeshPtr mesh() {
  static const MeshPtr shared = std::make_shared<const Mesh>(Mesh({{"data", 4}, {"model", 8}, {"expert", 2}}));
  return shared;
}

TEST(Sharding, PrintParseIsTheIdentity) {
  for (const char* text :
       {"[]", "[{}]", "[{?}]", "[{data}, {model,?}p1] replicated{expert}", "[{data,model:(2)4}, {}]",
        "[{model:(1)2}, {data}] partial{sum: model:(2)4,expert}", "[{}] partial{max: data}"})
    EXPECT_EQ(cat(parse_sharding(mesh(), text)), text);
}

TEST(Sharding, LocalShapeAndStart) {
  const Sharding sharding = parse_sharding(mesh(), "[{data,expert}, {}, {model:(1)2}]");
  EXPECT_EQ(sharding.local_shape({16, 3, 6}), (Shape{2, 3, 3}));
  // Device 63 is data 3, model 7, expert 1: the last block of dim 0, the second half of dim 2.
  EXPECT_EQ(sharding.shard_start({16, 3, 6}, 63), (std::vector<int64_t>{14, 0, 3}));
  EXPECT_EQ(sharding.replication(), 4);
  EXPECT_EQ(sharding.indivisible_dim({12, 3, 6}), 0);
  EXPECT_EQ(sharding.indivisible_dim({16, 3, 6}), -1);
}

TEST(Sharding, SameLayoutIgnoresOpennessAndPartialOrder) {
  EXPECT_TRUE(parse_sharding(mesh(), "[{data,?}p2]").same_layout(parse_sharding(mesh(), "[{data}]")));
  EXPECT_TRUE(parse_sharding(mesh(), "[{}] partial{sum: data,model}")
                  .same_layout(parse_sharding(mesh(), "[{}] partial{sum: model,data}")));
  EXPECT_FALSE(parse_sharding(mesh(), "[{}] partial{sum: data}")
                   .same_layout(parse_sharding(mesh(), "[{}] partial{max: data}")));
}

TEST(Sharding, Errors) {
  EXPECT_THROW(parse_sharding(mesh(), "[{data}, {data}]"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh(), "[{data}] partial{sum: data}"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh(), "[{dat}]"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh(), "[{data}"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh(), "[{data}] x"), ConfigError);
  EXPECT_THROW(parse_sharding(mesh(), "[{model:(1)2,model:(2)4}]"), ConfigError);
}

RC_GTEST_PROP(Sharding, ShardsTileTheTensor, ()) {
  static const char* const kTexts[] = {"[{data}, {model}]", "[{model:(2)4,data}, {expert}]",
                                       "[{}, {model:(1)2,expert}]"};
  const Sharding sharding = parse_sharding(mesh(), kTexts[*rc::gen::inRange(0, 3)]);
  const Shape global{32 * *rc::gen::inRange<int64_t>(1, 3), 8};
  std::vector<int> covered(static_cast<size_t>(global.elements()), 0);
  const Shape local = sharding.local_shape(global);
  for (int64_t device = 0; device < mesh()->devices(); ++device) {
    const auto start = sharding.shard_start(global, device);
    for (int64_t i = 0; i < local[0]; ++i)
      for (int64_t j = 0; j < local[1]; ++j) ++covered[(start[0] + i) * global[1] + start[1] + j];
  }
  for (int count : covered) RC_ASSERT(count == sharding.replication());
}

}  // namespace
}  // namespace tessera
