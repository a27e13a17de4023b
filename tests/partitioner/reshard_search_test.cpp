#include "partitioner/reshard_search.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace tessera {
namespace {

struct SearchCase {
  const char* mesh;
  Shape shape;
  const char* from;
  const char* to;
  const char* moves;  // joined by "; "
};

std::string moves_of(const ReshardPlan& plan) {
  std::vector<std::string> texts;
  for (const ReshardMove& move : plan.moves) texts.push_back(print_move(move));
  return join(texts, "; ");
}

// Large tensors, so that bytes decide and not latency.
// clang-format off
const SearchCase kCases[] = {
    // Nothing to do, and slices, which cost no communication.
    {"x=2", {4096, 4096}, "[{}, {}]", "[{}, {}]", ""},
    {"x=2", {4096, 4096}, "[{x}, {}]", "[{x}, {}]", ""},
    {"x=2", {4096, 4096}, "[{}, {}]", "[{x}, {}]", "all_slice{0, x}"},
    {"x=2", {4096, 4096}, "[{}, {}]", "[{}, {x}]", "all_slice{1, x}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}]", "[{x,y}, {}]", "all_slice{0, x,y}"},
    {"x=2,y=4", {4096, 4096}, "[{x}, {}]", "[{x,y}, {}]", "all_slice{0, y}"},
    {"x=4", {4096, 4096}, "[{x:(1)2}, {}]", "[{x}, {}]", "all_slice{0, x:(2)2}"},
    // Gathers.
    {"x=2", {4096, 4096}, "[{x}, {}]", "[{}, {}]", "all_gather{0, x}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{}, {}]", "all_gather{0, x,y}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{x}, {}]", "all_gather{0, y}"},
    {"x=4", {4096, 4096}, "[{x}, {}]", "[{x:(1)2}, {}]", "all_gather{0, x:(2)2}"},
    {"x=2,y=4", {4096, 4096}, "[{x}, {y}]", "[{x}, {}]", "all_gather{1, y}"},
    // From one dim to another.
    {"x=2", {4096, 4096}, "[{x}, {}]", "[{}, {x}]", "all_to_all{split=1, concat=0, x}"},
    {"x=2", {4096, 4096}, "[{}, {x}]", "[{x}, {}]", "all_to_all{split=0, concat=1, x}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{x}, {y}]", "all_to_all{split=1, concat=0, y}"},
    {"x=2,y=4", {4096, 4096}, "[{x}, {y}]", "[{x,y}, {}]", "all_to_all{split=0, concat=1, y}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{}, {x,y}]", "all_to_all{split=1, concat=0, x,y}"},
    {"x=4", {4096, 4096}, "[{x}, {}]", "[{x:(1)2}, {x:(2)2}]", "all_to_all{split=1, concat=0, x:(2)2}"},
    {"x=2", {64, 64, 4096}, "[{x}, {}, {}]", "[{}, {}, {x}]", "all_to_all{split=2, concat=0, x}"},
    // Relabelling: every device sends its whole shard to one other.
    {"x=2,y=2", {4096, 4096}, "[{x}, {}]", "[{y}, {}]", "collective_permute{x,y -> y,x}"},
    {"x=2,y=2", {4096, 4096}, "[{x}, {y}]", "[{y}, {x}]", "collective_permute{x,y -> y,x}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{y,x}, {}]", "collective_permute{x,y -> y,x}"},
    {"x=4,y=2,z=2", {4096, 4096}, "[{x}, {}]", "[{y,z}, {}]", "collective_permute{x,y,z -> y,z,x}"},
    {"x=2,y=4", {4096, 4096}, "[{x,y}, {}]", "[{y}, {}]", "collective_permute{x,y -> y,x}; all_gather{0, x}"},
    // Partial values.
    {"x=2", {4096, 4096}, "[{}, {}] partial{sum: x}", "[{}, {}]", "all_reduce{x}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}] partial{sum: x,y}", "[{}, {}]", "all_reduce{x,y}"},
    {"x=2", {4096, 4096}, "[{}, {}] partial{sum: x}", "[{x}, {}]", "reduce_scatter{0, x}"},
    {"x=2", {4096, 4096}, "[{}, {}] partial{sum: x}", "[{}, {x}]", "reduce_scatter{1, x}"},
    {"x=2", {4096, 4096}, "[{}, {}] partial{max: x}", "[{}, {x}]", "reduce_scatter{1, x}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}] partial{sum: x,y}", "[{x,y}, {}]", "reduce_scatter{0, x,y}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}] partial{sum: x,y}", "[{x}, {}] partial{sum: y}", "reduce_scatter{0, x}"},
    {"x=2,y=4", {4096, 4096}, "[{y}, {}] partial{sum: x}", "[{y}, {}]", "all_reduce{x}"},
    {"x=2,y=4", {4096, 4096}, "[{y}, {}] partial{sum: x}", "[{y,x}, {}]", "reduce_scatter{0, x}"},
    {"x=2,y=4", {4096, 4096}, "[{y}, {}] partial{sum: x}", "[{}, {}]", "reduce_scatter{0, x}; all_gather{0, y,x}"},
    {"x=2", {4096, 4096}, "[{}, {}]", "[{}, {}] partial{sum: x}", "replicated_to_partial{x}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}]", "[{y}, {}] partial{sum: x}", "all_slice{0, y}; replicated_to_partial{x}"},
    {"x=2,y=4", {4096, 4096}, "[{}, {}] partial{sum: x}", "[{}, {}] partial{sum: x,y}", "replicated_to_partial{y}"},
    {"x=2,y=2", {4096, 4096}, "[{}, {}] partial{sum: x}", "[{}, {}] partial{sum: y}", "all_reduce{x}; replicated_to_partial{y}"},
    // A dim too small to hold the axis on the way.
    {"x=2,y=2", {2, 4096}, "[{x}, {y}]", "[{}, {x,y}]", "all_to_all{split=1, concat=0, x}; collective_permute{y,x -> x,y}"},
    {"x=8", {3, 4096}, "[{}, {x}]", "[{}, {}]", "all_gather{1, x}"},
};
// clang-format on

TEST(ReshardSearch, Table) {
  for (const SearchCase& one : kCases) {
    const auto mesh = std::make_shared<const Mesh>(parse_mesh(one.mesh));
    MachineModel machine = machine_model("h100-nvlink-ib");
    machine.devices_per_host = 64;  // all links equal
    ReshardPlanner planner(mesh, machine);
    const Sharding from = parse_sharding(mesh, one.from), to = parse_sharding(mesh, one.to);
    const ReshardPlan& plan = planner.plan(from, to, {DType::f32, one.shape});
    EXPECT_EQ(moves_of(plan), one.moves) << one.mesh << " " << one.from << " -> " << one.to;
    EXPECT_FALSE(plan.is_fallback);
    if (!plan.moves.empty()) {
      EXPECT_TRUE(plan.moves.back().result.same_layout(to));
    }
  }
  EXPECT_EQ(std::size(kCases), 40u);
}

// Slow links between hosts: gathering a slice over them beats moving the whole shard.
TEST(ReshardSearch, KnowsSlowAxes) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("x=4,y=2,z=2"));
  ReshardPlanner planner(mesh, machine_model("h100-nvlink-ib"));
  const ReshardPlan& plan =
      planner.plan(parse_sharding(mesh, "[{x}, {}]"), parse_sharding(mesh, "[{y,z}, {}]"),
                   {DType::f32, {4096, 4096}});
  EXPECT_EQ(moves_of(plan),
            "all_slice{1, y,z}; all_gather{0, x}; all_to_all{split=0, concat=1, y,z}");
}

TEST(ReshardSearch, IsRemembered) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("x=2"));
  ReshardPlanner planner(mesh, machine_model("cpu-shm"));
  const Sharding from = parse_sharding(mesh, "[{x}]"), to = parse_sharding(mesh, "[{}]");
  planner.plan(from, to, {DType::f32, {8}});
  planner.plan(from, to, {DType::f32, {8}});
  EXPECT_EQ(planner.searches(), 1);
}

TEST(ReshardSearch, CutOffSearchFallsBackAndCounts) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("x=2,y=2"));
  ReshardPlanner planner(mesh, machine_model("cpu-shm"), {2, 0, 0});
  const Sharding from = parse_sharding(mesh, "[{x}, {y}] "),
                 to = parse_sharding(mesh, "[{y}, {x}]");
  const ReshardPlan& plan = planner.plan(from, to, {DType::f32, {8, 8}});
  EXPECT_TRUE(plan.is_fallback);
  EXPECT_EQ(planner.fallbacks(), 1);
  EXPECT_EQ(moves_of(plan), "all_gather{0, x}; all_gather{1, y}; all_slice{0, y}; all_slice{1, x}");
}

TEST(ReshardSearch, PartsThatCrossGoByWayOfTheWhole) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("x=6"));
  ReshardPlanner planner(mesh, machine_model("cpu-shm"));
  const ReshardPlan& plan = planner.plan(parse_sharding(mesh, "[{x:(1)2}]"),
                                         parse_sharding(mesh, "[{x:(1)3}]"), {DType::f32, {12}});
  EXPECT_EQ(moves_of(plan), "all_gather{0, x:(1)2}; all_slice{0, x:(1)3}");
  EXPECT_EQ(planner.fallbacks(), 1);
}

TEST(ReshardSearch, MemoryCapIsObeyed) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("x=2,y=2"));
  ReshardPlanner planner(mesh, machine_model("cpu-shm"), {1, 0, 20000});
  const TensorType type{DType::f32, {64, 64}};
  for (const auto& [a, b] :
       std::vector<std::pair<const char*, const char*>>{{"[{x}, {y}]", "[{y}, {x}]"},
                                                        {"[{x,y}, {}]", "[{}, {y,x}]"},
                                                        {"[{x}, {}]", "[{}, {y}]"}}) {
    const ReshardPlan& plan = planner.plan(parse_sharding(mesh, a), parse_sharding(mesh, b), type);
    const int64_t largest = std::max(parse_sharding(mesh, a).local_shape(type.shape).elements(),
                                     parse_sharding(mesh, b).local_shape(type.shape).elements());
    for (const ReshardMove& move : plan.moves)
      EXPECT_LE(move.result.local_shape(type.shape).elements(), largest) << a << " " << b;
  }
}

TEST(MachineModel, AxesThatCrossHosts) {
  const Mesh mesh = parse_mesh("data=4,model=8");
  MachineModel machine = machine_model("h100-nvlink-ib");
  EXPECT_TRUE(machine.crosses_hosts(mesh, mesh.axis("data")));
  EXPECT_FALSE(machine.crosses_hosts(mesh, mesh.axis("model")));
  const Mesh wide = parse_mesh("data=2,model=16");
  EXPECT_TRUE(machine.crosses_hosts(wide, wide.axis("model")));
  EXPECT_FALSE(machine.crosses_hosts(wide, parse_axis(wide, "model:(2)8")));
  EXPECT_THROW(machine_model("abacus"), ConfigError);
}

}  // namespace
}  // namespace tessera
