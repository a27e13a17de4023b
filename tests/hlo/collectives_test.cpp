// Collectives inside manual regions, in all notations of groups; who sends to whom.
#include "core/ops/control.h"
#include "partitioner/hlo/device_moves.h"
#include "tests/hlo/run_sharded.h"

namespace tessera::hlo {
namespace {

using namespace testing;

const std::string kCombiners =
    scalar_region("add", "add") + scalar_region("max", "maximum", "f32", /*is_swapped=*/true) +
    scalar_region("mul", "multiply") + scalar_region("sub", "subtract") + scalar_region("or", "or", "pred");

// Device d of <a=2, b=2> holds x = {2d, 2d + 1}; the results of all devices one after the other.
std::string on_four(std::string_view body, std::string_view local, std::string_view global) {
  return cat("HloModule m, frontend_attributes={xla.sdy.meshes={mesh = #sdy.mesh<[\"a\"=2, \"b\"=2]>}}\n",
             kCombiners, "body {\n  x = f32[2] parameter(0)\n", body, "\n}\nENTRY main {\n",
             "  p = f32[8] parameter(0)\n  l = f32[2] custom-call(p), "
             "custom_call_target=\"xla.sdy.GlobalToLocalShape\", frontend_attributes={"
             "xla.sdy.in_shardings=\"#sdy.sharding_per_value<[<@mesh, [{\\\"a\\\", \\\"b\\\"}]>]>\","
             "xla.sdy.manual_axes=\"#sdy<manual_axes{\\\"a\\\", \\\"b\\\"}>\"}\n  c = ", local,
             " call(l), to_apply=body\n  ROOT g = ", global, " custom-call(c), "
             "custom_call_target=\"xla.sdy.LocalToGlobalShape\", frontend_attributes={"
             "xla.sdy.out_shardings=\"#sdy.sharding_per_value<[<@mesh, [{\\\"a\\\", \\\"b\\\"}]>]>\","
             "xla.sdy.manual_axes=\"#sdy<manual_axes{\\\"a\\\", \\\"b\\\"}>\"}\n}\n");
}

Reals run_on_four(std::string_view body, std::string_view local = "f32[2]",
                  std::string_view global = "f32[8]") {
  const std::string text = on_four(body, local, global);
  const auto y = expect_equal_on_shards(text, {counting(DType::f32, {8})}, 4);
  expect_equal_on_shards(text, {counting(DType::f32, {8})}, 8);  // twice over
  return reals(y[0]);
}

TEST(HloCollectives, GroupsInAllNotations) {
  for (const char* groups : {"{{0,2},{1,3}}", "[2,2]<=[2,2]T(1,0)", "mesh['a'=2,'b'=2] {'a'}",
                             "{{1,3},{0,2}}", "{{2,0},{3,1}}"})
    EXPECT_EQ(run_on_four(cat("ROOT y = f32[2] all-reduce(x), channel_id=1, replica_groups=", groups,
                              ", use_global_device_ids=true, to_apply=add")),
              (Reals{4, 6, 8, 10, 4, 6, 8, 10}))
        << groups;
  for (const char* groups :
       {"replica_groups={{0,1,2,3}}", "replica_groups=[1,4]<=[4]", "replica_groups={}",
        "replica_groups={{0}}", "replica_groups=mesh['a'=2,'b'=2] {'a','b'}"})
    EXPECT_EQ(run_on_four(cat("ROOT y = f32[2] all-reduce(x), channel_id=1, ", groups, ", to_apply=add")),
              (Reals{12, 16, 12, 16, 12, 16, 12, 16}))
        << groups;
  // Each device alone.
  EXPECT_EQ(run_on_four("ROOT y = f32[2] all-reduce(x), channel_id=1, replica_groups={{0},{1},{2},{3}}, "
                        "use_global_device_ids=true, to_apply=add"),
            (Reals{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(HloCollectives, AllReduceKinds) {
  const std::string groups = ", replica_groups={{0,1},{2,3}}, use_global_device_ids=true, channel_id=1";
  EXPECT_EQ(run_on_four(cat("ROOT y = f32[2] all-reduce(x)", groups, ", to_apply=max")),
            (Reals{2, 3, 2, 3, 6, 7, 6, 7}));
  EXPECT_EQ(run_on_four(cat("ROOT y = f32[2] all-reduce(x)", groups, ", to_apply=mul")),
            (Reals{0, 3, 0, 3, 24, 35, 24, 35}));
  EXPECT_EQ(run_on_four(cat(R"(c = f32[] constant(4)
  b = f32[2] broadcast(c), dimensions={}
  p = pred[2] compare(x, b), direction=EQ
  o = pred[2] all-reduce(p))", groups, R"(, to_apply=or
  ROOT y = f32[2] convert(o))")),
            (Reals{0, 0, 0, 0, 1, 0, 1, 0}));
  // Several at once.
  EXPECT_EQ(run_on_four(cat(R"(n = f32[2] negate(x)
  t = (f32[2], f32[2]) all-reduce(x, n))", groups, R"(, to_apply=add
  u = f32[2] get-tuple-element(t), index=0
  v = f32[2] get-tuple-element(t), index=1
  w = f32[2] multiply(u, v)
  ROOT y = f32[2] negate(w))")),
            (Reals{4, 16, 4, 16, 100, 144, 100, 144}));
}

TEST(HloCollectives, GathersAndScatters) {
  EXPECT_EQ(run_on_four("ROOT y = f32[4] all-gather(x), channel_id=1, replica_groups={{0,2},{1,3}}, "
                        "dimensions={0}, use_global_device_ids=true", "f32[4]", "f32[16]"),
            (Reals{0, 1, 4, 5, 2, 3, 6, 7, 0, 1, 4, 5, 2, 3, 6, 7}));
  // In the order that the group states.
  EXPECT_EQ(run_on_four("ROOT y = f32[8] all-gather(x), channel_id=1, replica_groups={{0,2,1,3}}, "
                        "dimensions={0}, use_global_device_ids=true", "f32[8]", "f32[32]"),
            (Reals{0, 1, 4, 5, 2, 3, 6, 7, 0, 1, 4, 5, 2, 3, 6, 7,
                   0, 1, 4, 5, 2, 3, 6, 7, 0, 1, 4, 5, 2, 3, 6, 7}));
  EXPECT_EQ(run_on_four("ROOT y = f32[1] reduce-scatter(x), channel_id=1, replica_groups={{0,1},{2,3}}, "
                        "dimensions={0}, use_global_device_ids=true, to_apply=add", "f32[1]", "f32[4]"),
            (Reals{2, 4, 10, 12}));
}

TEST(HloCollectives, AllToAllOfOneArrayAndOfSeveral) {
  EXPECT_EQ(run_on_four("ROOT y = f32[2] all-to-all(x), channel_id=1, replica_groups={{0,2},{1,3}}, "
                        "dimensions={0}"),
            (Reals{0, 4, 2, 6, 1, 5, 3, 7}));
  EXPECT_EQ(run_on_four(R"(a = f32[1] slice(x), slice={[0:1]}
  b = f32[1] slice(x), slice={[1:2]}
  t = (f32[1], f32[1]) all-to-all(a, b), channel_id=1, replica_groups={{0,1},{2,3}}
  u = f32[1] get-tuple-element(t), index=0
  v = f32[1] get-tuple-element(t), index=1
  ROOT y = f32[2] concatenate(u, v), dimensions={0})"),
            (Reals{0, 2, 1, 3, 4, 6, 5, 7}));
}

TEST(HloCollectives, Broadcast) {
  EXPECT_EQ(run_on_four("ROOT y = f32[2] collective-broadcast(x), replica_groups={{1,0},{3,2}}, "
                        "channel_id=1"),
            (Reals{2, 3, 2, 3, 6, 7, 6, 7}));
  EXPECT_EQ(run_on_four("ROOT y = f32[2] collective-broadcast(x), replica_groups={{0,3}}, channel_id=1"),
            (Reals{0, 1, 0, 0, 0, 0, 0, 1}));
}

TEST(HloCollectives, WhoAmI) {
  EXPECT_EQ(run_on_four(R"(i = u32[] partition-id()
  r = u32[] replica-id()
  s = u32[] add(i, r)
  f = f32[] convert(s)
  b = f32[2] broadcast(f), dimensions={}
  ROOT y = f32[2] add(x, b))"),
            (Reals{0, 1, 3, 4, 6, 7, 9, 10}));
}

// ---- Permutations -------------------------------------------------------------------------------------

Reals permuted(std::string_view pairs) {
  return run_on_four(cat("ROOT y = f32[2] collective-permute(x), channel_id=1, source_target_pairs=", pairs));
}

TEST(HloCollectives, PermutationsReachTheirTargets) {
  EXPECT_EQ(permuted("{{0,1},{2,3}}"), (Reals{0, 0, 0, 1, 0, 0, 4, 5}));             // along b
  EXPECT_EQ(permuted("{{0,1},{1,0},{2,3},{3,2}}"), (Reals{2, 3, 0, 1, 6, 7, 4, 5}));   // wrapped
  EXPECT_EQ(permuted("{{0,1},{1,2},{2,3},{3,0}}"), (Reals{6, 7, 0, 1, 2, 3, 4, 5}));   // along a, b
  EXPECT_EQ(permuted("{{0,0},{1,2},{2,1},{3,3}}"), (Reals{0, 1, 4, 5, 2, 3, 6, 7}));   // b, a
  EXPECT_EQ(permuted("{{3,0}}"), (Reals{6, 7, 0, 0, 0, 0, 0, 0}));                     // alone
  EXPECT_EQ(permuted("{{0,0},{1,2},{2,3},{3,1}}"), (Reals{0, 1, 6, 7, 2, 3, 4, 5}));   // three in turn
  EXPECT_EQ(permuted("{{1,2},{2,1}}"), (Reals{0, 0, 4, 5, 2, 3, 0, 0}));               // a swap
  EXPECT_EQ(permuted("{{0,0},{1,1}}"), (Reals{0, 1, 2, 3, 0, 0, 0, 0}));
  EXPECT_EQ(permuted("{{0,0},{1,1},{2,2},{3,3}}"), (Reals{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(permuted("{}"), (Reals{0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(DeviceMoves, AreTheCheapestThatFit) {
  const Mesh mesh({{"a", 2}, {"b", 3}});
  using Kind = DeviceMove::Kind;
  auto kind_of = [&](std::vector<int64_t> source) { return find_move(source, mesh).kind; };
  EXPECT_EQ(kind_of({0, 1, 2, 3, 4, 5}), Kind::none);
  EXPECT_EQ(kind_of({-1, 0, 1, -1, 3, 4}), Kind::shift);
  EXPECT_EQ(kind_of({2, 0, 1, 5, 3, 4}), Kind::shift);
  EXPECT_EQ(kind_of({1, 0, 2, 4, 3, 5}), Kind::gather);
  EXPECT_EQ(kind_of({3, 4, 5, 0, 1, 2}), Kind::shift);  // along a
  const DeviceMove open = find_move({-1, 0, 1, -1, 3, 4}, mesh);
  EXPECT_EQ(open.places, 1);
  EXPECT_FALSE(open.wrap);
  EXPECT_TRUE(open.is_complete);
  EXPECT_EQ(open.axes, (AxisList{mesh.axis("b")}));
  const DeviceMove ring = find_move({5, 0, 1, 2, 3, 4}, mesh);
  EXPECT_TRUE(ring.wrap);
  EXPECT_EQ(ring.axes.size(), 2u);
  const DeviceMove one = find_move({-1, 0, -1, -1, 3, -1}, mesh);
  EXPECT_EQ(one.kind, Kind::shift);
  EXPECT_FALSE(one.is_complete);
  const Mesh square({{"a", 2}, {"b", 2}});
  EXPECT_EQ(find_move({0, 2, 1, 3}, square).kind, Kind::relabel);
}

// ---- Errors -------------------------------------------------------------------------------------------

TEST(HloCollectives, ErrorsNameLineAndGroups) {
  auto refused = [](std::string_view body, const std::vector<std::string>& parts) {
    expect_error(on_four(body, "f32[2]", "f32[8]"), parts);
  };
  refused("ROOT y = f32[2] all-reduce(x), channel_id=1, replica_groups={{0,3},{1,2}}, "
          "use_global_device_ids=true, to_apply=add",
          {"(%y)", "{{0,3},{1,2}}", "along axes"});
  refused("ROOT y = f32[2] all-reduce(x), channel_id=1, replica_groups={{0,1}}, "
          "use_global_device_ids=true, to_apply=add",
          {"(%y)", "{{0,1}}", "2 devices", "4"});
  refused("ROOT y = f32[2] all-reduce(x), channel_id=1, replica_groups={{0,1},{2,3}}",
          {"(%y)", "to_apply"});
  refused("ROOT y = f32[2] all-gather(x), channel_id=1, replica_groups={{0,1},{2,3}}, dimensions={1}",
          {"(%y)", "dimensions"});
  refused("ROOT y = f32[2] reduce-scatter(x), channel_id=1, replica_groups={{0,1,2,3}}, "
          "dimensions={0}, to_apply=add",
          {"(%y)", "dim 0 of f32[2]", "4 devices"});
  refused("t = (f32[2]) all-to-all(x), channel_id=1, replica_groups={{0,1},{2,3}}\n"
          "ROOT y = f32[2] get-tuple-element(t), index=0",
          {"(%t)", "1 arrays", "2 devices"});
  refused("ROOT y = f32[2] collective-permute(x), channel_id=1", {"(%y)", "source_target_pairs"});
  refused("ROOT y = f32[2] collective-permute(x), channel_id=1, source_target_pairs={{0,1},{2,1}}",
          {"(%y)", "{2,1}", "twice"});
  refused("ROOT y = f32[2] collective-permute(x), channel_id=1, source_target_pairs={{0,1,2}}",
          {"(%y)", "not a pair"});
  EXPECT_EQ(unsupported_of(on_four("ROOT y = f32[2] all-reduce(x), channel_id=1, "
                                   "replica_groups={{0,1},{2,3}}, to_apply=sub",
                                   "f32[2]", "f32[8]")).at(0).find("combiner sub of all-reduce"),
            0u);
}

TEST(HloCollectives, StandInManualRegionsOnly) {
  for (const char* opcode : {"all-reduce(x), to_apply=add", "all-to-all(x), dimensions={0}",
                             "collective-permute(x), source_target_pairs={{0,1}}"})
    expect_error(module_of(cat("\nx = f32[8] parameter(0)\nROOT y = f32[8] ", opcode), kCombiners),
                 {"(%y)", "outside a manual region"});
  expect_error(module_of("x = u32[] parameter(0)\ni = u32[] partition-id()\nROOT y = u32[] add(x, i)"),
               {"(%i)", "partition-id"});
  // In what is called from outside, too.
  expect_error(module_of("\nx = f32[8] parameter(0)\nROOT y = f32[8] call(x), to_apply=f",
                         cat(kCombiners, "f {\n x = f32[8] parameter(0)\n ROOT z = f32[8] "
                                         "all-reduce(x), to_apply=add\n}\n")),
               {"(%z)", "outside a manual region"});
}

}  // namespace
}  // namespace tessera::hlo
