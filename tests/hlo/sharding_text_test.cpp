// Shardings, meshes and replica groups: what is read, what is printed, what is refused.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "partitioner/hlo/replica_groups.h"
#include "partitioner/hlo/sdy.h"
#include "partitioner/hlo/sharding.h"

namespace tessera::hlo {
namespace {

using Groups = std::vector<std::vector<int64_t>>;

void expect_canonical(const std::string& text) {
  const HloSharding sharding = parse_hlo_sharding(text);
  EXPECT_EQ(print(sharding), text);
  EXPECT_EQ(parse_hlo_sharding(print(sharding)), sharding);
}

template <typename Parse>
std::string error_of(const Parse& parse) {
  try {
    parse();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ShardingText, PrintsWhatItReads) {
  for (const char* text :
       {"{replicated}",
        "{manual}",
        "{maximal device=3}",
        "{unknown}",
        "{unreduced}",
        "{devices=[2,2]0,2,1,3}",
        "{devices=[2,2]<=[4]}",
        "{devices=[2,2]<=[2,2]T(1,0)}",
        "{devices=[2,1,2]<=[2,2]T(1,0) last_tile_dim_replicate}",
        "{devices=[2,1,2,2]<=[8] last_tile_dims={manual, replicated}}",
        "{devices=[1,1,4]<=[4] last_tile_dims={unreduced}}",
        "{unknown shard_as 7}",
        "{replicated shard_like 1}",
        "{devices=[2]<=[2] shard_as 0}",
        "{mesh['a'=2,'b'=4], [{'a'}, {'b'}]}",
        "{mesh['a'=2,'b'=4], [{'b', 'a'}, {?}]}",
        "{mesh_1['a'=2], [{'a'}]}",
        "{@pod['a'=2], [{'a'}]}",
        "{mesh['a'=2,'b'=4], [{'a', 'b':(2)2, ?}, {}]}",
        "{mesh['a'=2,'b'=4,'c'=3,'d'=8], [{'a'}], replicated={'c'}, unreduced={'d':(4)2}, "
        "manual={'b':(2)2}}",
        "{mesh['x'=2], [{}], unreduced=max{'x'}}",
        "{mesh['a'=2,'b'=4,'c'=4,'d'=2], device_ids=([4,16]T(1,0)), [{'a'}]}",
        "{mesh['x'=2,'y'=2], device_ids=(0,2,1,3), [{'x'}]}",
        "{mesh[], replicated}",
        "{mesh['a'=2,'b'=4], replicated}",
        "{mesh['a'=2], manual}",
        "{mesh['a'=2], unreduced}",
        "{maximal_mesh[device_id=5]}",
        "{mesh['a.b'=2,'<axis> def'=4,'z/w'=2], [{'a.b'}, {'<axis> def'}]}",
        "{}",
        "{{replicated}}",
        "{{devices=[2]<=[2]}, {maximal device=0}, {manual shard_as 4}}"})
    expect_canonical(text);
}

TEST(ShardingText, ReadsOtherSpellings) {
  const auto reads_as = [](const char* text, const char* canonical) {
    EXPECT_EQ(print(parse_hlo_sharding(text)), canonical) << text;
  };
  reads_as(" { replicated } ", "{replicated}");
  reads_as("{device=2}", "{maximal device=2}");
  reads_as("{devices=[2,1,2]<=[4] last_tile_dims={replicated}}",
           "{devices=[2,1,2]<=[4] last_tile_dim_replicate}");
  reads_as("{devices=[2]<=[2] metadata={op_name=\"a}\\\"{\"}}", "{devices=[2]<=[2]}");
  reads_as("{replicated metadata={{op_name=\"b\"}, {op_name=\"c\"}}}", "{replicated}");
  reads_as("{mesh['a'=2] [{'a'}], metadata={op_name=\"b\"}}", "{mesh['a'=2], [{'a'}]}");
  reads_as("{mesh[a=2,b=4], [{a}, {b:(1)2}]}", "{mesh['a'=2,'b'=4], [{'a'}, {'b':(1)2}]}");
  reads_as("{@mesh<a=2>, [{a}]}", "{mesh['a'=2], [{'a'}]}");
  reads_as("{{replicated}, /*index=1*/{manual}}", "{{replicated}, {manual}}");
  reads_as("{mesh['a'=2], [{'a':(1)2}]}", "{mesh['a'=2], [{'a'}]}");
}

TEST(ShardingText, RefusesWithPlaceAndReason) {
  const auto refuses = [](const char* text, const char* message) {
    EXPECT_NE(error_of([&] { parse_hlo_sharding(text); }).find(message), std::string::npos)
        << text << "\n"
        << error_of([&] { parse_hlo_sharding(text); });
  };
  refuses("", "expected '{' at column 1, where the text ends");
  refuses("{replicate}", "expected replicated, maximal");
  refuses("{devices=[2,2]<=[8]}", "[2,2] holds 4 devices, but [8] another number");
  refuses("{devices=[2,2]<=[2,2]T(0,0)}", "T(0,0) is no permutation of the 2 dims");
  refuses("{devices=[2,2]<=[2,2]T(1)}", "T(1) is no permutation");
  refuses("{devices=[2,2]0,1,2}", "[2,2] holds 4 devices, but 3 are listed");
  refuses("{devices=[2]1,1}", "device 1 is listed twice");
  refuses("{devices=[2]0,-1}", "not -1");
  refuses("{devices=[0]<=[0]}", "sizes start at 1");
  refuses("{devices=[99999999,99999999]<=[4]}", "more than 1048576 devices");
  refuses("{devices=[9999999999999999999999]<=[4]}", "a number below 2^63");
  refuses("{devices=[2]<=[2] last_tile_dims={manual,manual}}", "names 2 dims of [2]");
  refuses("{replicated last_tile_dim_replicate}", "only devices=");
  refuses("{replicated manual}", "expected '}'");
  refuses("{mesh['a'=2], [{'b'}]}", "no axis 'b'; it has a");
  refuses("{mesh['a'=2,'a'=2], [{'a'}]}", "named twice");
  refuses("{mesh['a'=2], [{'a'}, {'a'}]}", "'a' is used twice");
  refuses("{mesh['a'=4], [{'a':(1)2}, {'a'}]}", "'a' is used twice, also as 'a':(1)2");
  refuses("{mesh['a'=4], [{'a':(3)2}]}", "part (3)2 does not divide axis 'a' of size 4");
  refuses("{mesh['a'=2], [{'a'}", "expected ']'");
  refuses("{replicated} x", "expected the end at column 14, found 'x'");
  refuses("{{replicated}", "expected '}'");
  refuses("{metadata={}}", "neither");
  refuses("{{{{{{{{", "expected replicated");
}

TEST(ShardingText, ExpandsIotas) {
  const auto devices = [](const char* text) { return parse_hlo_sharding(text).devices.expand(); };
  EXPECT_EQ(devices("{devices=[2,2]<=[4]}"), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(devices("{devices=[2,2]<=[2,2]T(1,0)}"), (std::vector<int64_t>{0, 2, 1, 3}));
  EXPECT_EQ(devices("{devices=[4,2]<=[2,4]T(1,0)}"),
            (std::vector<int64_t>{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ(devices("{devices=[2,3]<=[3,2]T(1,0)}"), (std::vector<int64_t>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(devices("{devices=[8]<=[2,2,2]T(2,1,0)}"),
            (std::vector<int64_t>{0, 4, 2, 6, 1, 5, 3, 7}));
}

TEST(ReplicaGroupsText, ReadsPrintsAndExpands) {
  const auto expands = [](const std::string& text, const Groups& groups) {
    const ReplicaGroups parsed = parse_replica_groups(text);
    EXPECT_EQ(print(parsed), text);
    EXPECT_EQ(parse_replica_groups(print(parsed)), parsed);
    EXPECT_EQ(parsed.expand(4), groups) << text;
  };
  expands("{}", {{0, 1, 2, 3}});
  expands("{{0,1},{2,3}}", {{0, 1}, {2, 3}});
  expands("{{0,2,1,3}}", {{0, 2, 1, 3}});
  expands("[2,2]<=[4]", {{0, 1}, {2, 3}});
  expands("[2,2]<=[2,2]T(1,0)", {{0, 2}, {1, 3}});
  expands("mesh['x'=2,'y'=2] {'y'}", {{0, 1}, {2, 3}});
  expands("mesh['x'=2,'y'=2] {'x'}", {{0, 2}, {1, 3}});
  expands("mesh['x'=2,'y'=2] {'y', 'x'}", {{0, 2, 1, 3}});
  expands("mesh['x'=8] {'x':(2)2}", {{0, 2}, {1, 3}, {4, 6}, {5, 7}});
  expands("mesh['x'=2,'y'=2], device_ids=(0,2,1,3) {'y'}", {{0, 2}, {1, 3}});
  expands("mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'y'}", {{0, 2}, {1, 3}});
  expands("maximal_mesh[device_id=2] {}", {{2}});
  EXPECT_EQ(print(parse_replica_groups("{{}}")), "{}");
}

TEST(ReplicaGroupsText, RefusesWhatIsNone) {
  for (const char* text : {"", "{{0,0}}", "{{0},{}}", "{{-1}}", "[2]<=[2]", "[2,2]<=[8]",
                           "mesh['x'=2]", "mesh['x'=2] {'y'}", "{{0,1}", "[2,2]", "{{99999999}}"})
    EXPECT_THROW(parse_replica_groups(text), UserError) << text;
}

TEST(SdyText, ReadsMeshes) {
  const auto meshes = parse_sdy_meshes(
      "{mesh = #sdy.mesh<[\"data\"=2, \"model\"=4]>, other = #sdy.mesh<[\"a\"=4], "
      "device_ids=[3,2,1,0]>, empty_mesh = #sdy.mesh<[]>, one = #sdy.mesh<[], device_ids=[5]>}");
  ASSERT_EQ(meshes.size(), 4u);
  EXPECT_EQ(meshes.at("mesh").axes, (std::vector<NamedAxis>{{"data", 1, 2}, {"model", 1, 4}}));
  EXPECT_FALSE(meshes.at("mesh").device_ids);
  EXPECT_EQ(meshes.at("other").device_ids->expand(), (std::vector<int64_t>{3, 2, 1, 0}));
  EXPECT_TRUE(meshes.at("empty_mesh").axes.empty());
  EXPECT_EQ(meshes.at("one").maximal_device, 5);
  EXPECT_EQ(parse_sdy_meshes("{mesh = #sdy.mesh<[\\\"a\\\"=2]>}").at("mesh").axes[0].name, "a");
}

TEST(SdyText, ReadsShardings) {
  const auto meshes = parse_sdy_meshes(
      "{mesh = #sdy.mesh<[\"data\"=2, \"model\"=4]>, empty = #sdy.mesh<[]>, "
      "one = #sdy.mesh<[], device_ids=[5]>}");
  const auto reads_as = [&](const char* text, const std::vector<std::string>& expected) {
    std::vector<std::string> printed;
    for (const HloSharding& sharding : parse_sdy_shardings(text, meshes))
      printed.push_back(print(sharding));
    EXPECT_EQ(printed, expected) << text;
  };
  reads_as("#sdy.sharding<@mesh, [{\"data\"}, {}]>",
           {"{mesh['data'=2,'model'=4], [{'data'}, {}]}"});
  reads_as(
      "#sdy.sharding<@mesh, [{?}, {\"model\":(2)2, ?}p1], replicated={\"data\"}, "
      "unreduced={\"model\":(1)2}>",
      {"{mesh['data'=2,'model'=4], [{?}, {'model':(2)2, ?}p1], replicated={'data'}, "
       "unreduced={'model':(1)2}}"});
  reads_as("#sdy.sharding_per_value<[<@mesh, [{}]>, <@mesh, [{\"model\"}]>]>",
           {"{mesh['data'=2,'model'=4], [{}]}", "{mesh['data'=2,'model'=4], [{'model'}]}"});
  reads_as("#sdy.sharding_per_value<[]>", {});
  reads_as("#sdy.sharding<@mesh, []>", {"{mesh['data'=2,'model'=4], []}"});
  reads_as("#sdy.sharding<@empty, [{}, {}]>", {"{@empty[], [{}, {}]}"});
  reads_as("#sdy.sharding<@one, []>", {"{maximal device=5}"});
  reads_as("#sdy.sharding<mesh<[\"a\"=2], device_ids=[1,0]>, [{\"a\"}]>",
           {"{mesh['a'=2], device_ids=(1,0), [{'a'}]}"});
  reads_as("#sdy.sharding<@mesh, [{\\\"data\\\"}]>", {"{mesh['data'=2,'model'=4], [{'data'}]}"});
  reads_as("#sdy.sharding<@mesh, [{}], unreduced=max{\"data\"}>",
           {"{mesh['data'=2,'model'=4], [{}], unreduced=max{'data'}}"});
  EXPECT_EQ(parse_sdy_manual_axes("#sdy<manual_axes{\"a\", \"b\"}>"),
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parse_sdy_manual_axes("#sdy<manual_axes{}>"), std::vector<std::string>{});
}

TEST(SdyText, RefusesWithPlaceAndReason) {
  const auto meshes = parse_sdy_meshes("{mesh = #sdy.mesh<[\"data\"=2]>}");
  const auto refuses = [&](const char* text, const char* message) {
    EXPECT_NE(error_of([&] { parse_sdy_shardings(text, meshes); }).find(message), std::string::npos)
        << text << "\n"
        << error_of([&] { parse_sdy_shardings(text, meshes); });
  };
  refuses("", "expected '<'");
  refuses("#sdy.sharding<@mess, [{}]>", "no mesh @mess; did you mean @mesh?");
  refuses("#sdy.sharding<@mesh, [{\"x\"}]>", "no axis 'x'; it has data");
  refuses("#sdy.sharding<@mesh, [{\"data\"}, {\"data\"}]>", "used twice");
  refuses("#sdy.sharding<@mesh, [{\"data\"}]", "expected '>'");
  EXPECT_THROW(parse_sdy_meshes("{mesh = #sdy.mesh<[\"a\"=0]>}"), UserError);
  EXPECT_THROW(parse_sdy_meshes("{mesh = #sdy.mesh<[\"a\"=2], device_ids=[0,0]>}"), UserError);
  EXPECT_THROW(parse_sdy_meshes("{m = #sdy.mesh<[]>, m = #sdy.mesh<[]>}"), UserError);
  EXPECT_THROW(parse_sdy_manual_axes("{\"a\""), UserError);
}

}  // namespace
}  // namespace tessera::hlo
