// Broken notations are refused by UserErrors, never by a crash; what can be read can be printed,
// read again and converted, or is refused there.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"
#include "partitioner/hlo/sdy.h"

namespace tessera::hlo {
namespace {

const char* const kSeeds[] = {
    "{devices=[2,2]0,2,1,3}",
    "{devices=[2,1,2]<=[2,2]T(1,0) last_tile_dim_replicate}",
    "{devices=[2,1,2,2]<=[8] last_tile_dims={manual, replicated}}",
    "{devices=[1,1,4]<=[4] last_tile_dims={unreduced}}",
    "{unknown shard_as 7}",
    "{maximal device=3}",
    "{mesh['a'=2,'b'=4], [{'a', 'b':(2)2, ?}p1, {}], replicated={'b':(1)2}}",
    "{mesh['a'=2,'b'=4,'c'=4,'d'=2], device_ids=([4,16]T(1,0)), [{'a'}, {'c'}], "
    "unreduced=max{'d'}}",
    "{mesh['x'=2,'y'=2], device_ids=(0,2,1,3), [{'x'}, {'y'}], manual={'x'}}",
    "{{devices=[2]<=[2]}, {maximal device=0}, {manual}}",
    "{{0,1},{2,3}}",
    "[2,4]<=[2,2,2]T(2,0,1)",
    "mesh['x'=2,'y'=2] {'y':(1)2}",
    "{mesh = #sdy.mesh<[\"data\"=2, \"model\"=4], device_ids=[3,2,1,0,4,5,6,7]>}",
    "#sdy.sharding_per_value<[<@mesh, [{\"data\", ?}p1, {\"model\":(1)2}], "
    "replicated={\"model\":(2)2}>]>",
    "#sdy.sharding<mesh<[\"a\"=2]>, [{\"a\"}, {}]>",
};

std::string mutated(std::string text, std::mt19937& random) {
  constexpr std::string_view kSymbols = "{}[]()<>,='\":?@0123456789TpLabx \\#-";
  auto below = [&](size_t end) { return static_cast<size_t>(random() % end); };
  for (size_t edits = below(3); edits-- > 0 && !text.empty();) {
    const size_t at = below(text.size());
    switch (random() % 4) {
      case 0:
        text.erase(at, 1 + below(3));
        break;
      case 1:
        text.insert(at, 1, kSymbols[below(kSymbols.size())]);
        break;
      case 2:
        text[at] = kSymbols[below(kSymbols.size())];
        break;
      default:
        text.insert(at, text.substr(below(text.size()), 1 + below(12)));
        break;
    }
  }
  return text;
}

template <typename Work>
bool is_refused(const Work& work) {
  try {
    work();
  } catch (const UserError&) {
    return true;
  }
  return false;
}

void use(const HloSharding& sharding) {
  HloModule module;
  HloInstruction& instruction = module.computations.emplace_back().instructions.emplace_back();
  instruction.attributes.push_back({"sharding", sharding, 1});
  module.entry = module.computations[0].root = 0;
  is_refused([&] {
    const MeshPtr mesh = choose_mesh(module, 0);
    const ConvertedSharding converted = convert_sharding(sharding, mesh, 2);
    converted.sharding.verify();
    parse_hlo_sharding(print(tile_sharding(converted.sharding)));
    parse_hlo_sharding(print(named_sharding(converted.sharding)));
  });
}

TEST(ShardingMutations, NothingCrashes) {
  std::mt19937 random(23);
  const auto meshes = parse_sdy_meshes("{mesh = #sdy.mesh<[\"data\"=2, \"model\"=4]>}");
  int64_t read = 0, refused = 0;
  for (int turn = 0; turn < 40000; ++turn) {
    const std::string text = mutated(kSeeds[random() % std::size(kSeeds)], random);
    if (text.find("0000") != std::string::npos)
      continue;  // lists of that length have their own test
    refused += is_refused([&] {
      const HloSharding sharding = parse_hlo_sharding(text);
      ASSERT_EQ(print(parse_hlo_sharding(print(sharding))), print(sharding)) << text;
      use(sharding);
      ++read;
    });
    refused += is_refused([&] {
      const ReplicaGroups groups = parse_replica_groups(text);
      ASSERT_EQ(parse_replica_groups(print(groups)), groups) << text;
      const auto lists = groups.expand(8);
      axes_of_groups(lists, parse_mesh("<a=2, b=4>"));
      ++read;
    });
    refused += is_refused([&] { parse_sdy_meshes(text), ++read; });
    refused += is_refused([&] {
      for (const HloSharding& sharding : parse_sdy_shardings(text, meshes)) use(sharding);
      ++read;
    });
    refused += is_refused([&] { parse_sdy_manual_axes(text), ++read; });
  }
  EXPECT_GT(read, 5000);
  EXPECT_GT(refused, 50000);
}

TEST(ShardingMutations, LargeArrangementsAreQuick) {
  const auto start = std::chrono::steady_clock::now();
  for (const char* text :
       {"{devices=[1048576,1]<=[1048576]}", "{devices=[1024,1024]<=[1024,1024]T(1,0)}",
        "{devices=[2,4,131072]<=[2,2,262144]T(2,0,1) last_tile_dim_replicate}",
        "{devices=[1,524288,2]<=[8,131072]T(1,0) last_tile_dims={manual}}",
        "{mesh['a'=1024,'b'=1024], device_ids=([1024,1024]T(1,0)), [{'a'}, {'b'}]}"})
    use(parse_hlo_sharding(text));
  EXPECT_TRUE(is_refused([] { parse_hlo_sharding("{devices=[2097152]<=[2097152]}"); }));
  EXPECT_TRUE(
      is_refused([] { parse_replica_groups("[1,4611686018427387904]<=[4611686018427387904]"); }));
  EXPECT_TRUE(is_refused(
      [] { parse_sdy_meshes("{m = #sdy.mesh<[\"a\"=4294967296, \"b\"=4294967296]>}"); }));
  std::string deep(1 << 20, '{');
  EXPECT_TRUE(is_refused([&] { parse_hlo_sharding(deep); }));
  EXPECT_TRUE(is_refused([&] { parse_sdy_shardings(deep, {}); }));
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  EXPECT_LT(spent.count(), 20);
}

}  // namespace
}  // namespace tessera::hlo
