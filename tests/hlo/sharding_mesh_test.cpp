// Which mesh a module gets, and groups of devices as its axes.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "partitioner/hlo/convert_sharding.h"

namespace tessera::hlo {
namespace {

using Lists = std::vector<std::vector<int64_t>>;

HloModule module_with(const std::vector<const char*>& shardings, const char* meshes = nullptr) {
  HloModule module;
  HloComputation& computation = module.computations.emplace_back();
  for (const char* text : shardings) {
    HloInstruction& instruction = computation.instructions.emplace_back();
    if (std::string_view(text).substr(0, 4) == "#sdy")
      instruction.attributes.push_back(
          {"frontend_attributes", Dictionary{{{"xla.sdy.sharding", text}}}, 1});
    else
      instruction.attributes.push_back({"sharding", parse_hlo_sharding(text), 1});
  }
  computation.root = 0;
  module.entry = 0;
  if (meshes) module.frontend_attributes.entries.push_back({"xla.sdy.meshes", meshes});
  return module;
}

std::string mesh_of(const std::vector<const char*>& shardings, const char* meshes = nullptr,
                    int64_t devices = 0) {
  return cat(*choose_mesh(module_with(shardings, meshes), devices));
}

TEST(ShardingMesh, FactorsTiles) {
  EXPECT_EQ(mesh_of({}), "<x0=1>");
  EXPECT_EQ(mesh_of({"{replicated}"}), "<x0=1>");
  EXPECT_EQ(mesh_of({"{devices=[4]<=[4]}"}), "<x0=4>");
  EXPECT_EQ(mesh_of({"{devices=[4,1]<=[4]}", "{devices=[2,2]<=[4]}"}), "<x0=2, x1=2>");
  EXPECT_EQ(mesh_of({"{devices=[4,2]<=[2,4]T(1,0)}"}), "<x0=2, x1=4>");
  EXPECT_EQ(mesh_of({"{devices=[2,1,4]<=[8] last_tile_dim_replicate}"}), "<x0=2, x1=4>");
  EXPECT_EQ(mesh_of({"{devices=[2,1,4]<=[4,2]T(1,0) last_tile_dim_replicate}"}), "<x0=4, x1=2>");
  EXPECT_EQ(mesh_of({"{devices=[2,2]0,2,1,3}"}), "<x0=2, x1=2>");
  EXPECT_EQ(mesh_of({"{{devices=[2,2]<=[4]}, {replicated}}"}), "<x0=2, x1=2>");
  // 6 = 2 x 3 and 6 = 3 x 2 have no common cuts; the first wins.
  EXPECT_EQ(mesh_of({"{devices=[2,3]<=[6]}", "{devices=[3,2]<=[6]}"}), "<x0=2, x1=3>");
  // All lists agree on an order of devices.
  EXPECT_EQ(mesh_of({"{devices=[4,1]0,1,3,2}", "{devices=[2,2]0,1,3,2}"}),
            "<x0=2, x1=2, device_order=[0,1,3,2]>");
  EXPECT_EQ(mesh_of({"{devices=[4,1]0,1,3,2}", "{devices=[4,1]<=[4]}"}), "<x0=4>");
}

TEST(ShardingMesh, TakesNamedAxes) {
  const char* meshes = "{mesh = #sdy.mesh<[\"data\"=2, \"model\"=4]>, big = #sdy.mesh<[\"x\"=16]>}";
  EXPECT_EQ(mesh_of({"#sdy.sharding<@mesh, [{\"data\"}]>"}, meshes), "<data=2, model=4>");
  EXPECT_EQ(mesh_of({"#sdy.sharding<@mesh, [{\"data\"}]>", "{devices=[2,4]<=[8]}"}, meshes),
            "<data=2, model=4>");
  EXPECT_EQ(mesh_of({"{replicated}"}, meshes), "<x=16>");
  EXPECT_EQ(mesh_of({"{replicated}"}, meshes, 8), "<data=2, model=4>");
  EXPECT_EQ(mesh_of({"{replicated}"}, meshes, 3), "<replica=3, x0=1>");
  EXPECT_EQ(mesh_of({"{devices=[2,4]<=[8]}"}, meshes), "<data=2, model=4>");
  EXPECT_EQ(mesh_of({"{devices=[2,2]<=[4]}"}, meshes), "<x0=2, x1=2>");
  EXPECT_EQ(mesh_of({"#sdy.sharding<mesh<[\"a\"=2]>, [{\"a\"}]>"}), "<a=2>");
  EXPECT_EQ(
      mesh_of({"{mesh['a'=2,'b'=2], [{'a'}]}", "{mesh['c'=4], [{'c'}]}", "{mesh['c'=4], [{}]}"}),
      "<c=4>");
  EXPECT_EQ(mesh_of({"{mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)), [{'a'}]}"}), "<b=4, a=2>");
  EXPECT_EQ(mesh_of({"{mesh['a'=2,'b'=2], device_ids=(0,1,3,2), [{'a'}]}"}),
            "<a=2, b=2, device_order=[0,1,3,2]>");
}

TEST(ShardingMesh, AddsReplicas) {
  EXPECT_EQ(mesh_of({"{devices=[2,2]<=[4]}"}, nullptr, 8), "<replica=2, x0=2, x1=2>");
  EXPECT_EQ(mesh_of({"{mesh['replica'=2], [{'replica'}]}"}, nullptr, 6),
            "<replica_1=3, replica=2>");
  EXPECT_EQ(mesh_of({"{replicated}"}, nullptr, 3), "<replica=3, x0=1>");
  EXPECT_EQ(mesh_of({"{devices=[4,1]0,1,3,2}"}, nullptr, 8),
            "<replica=2, x0=4, device_order=[0,1,3,2,4,5,7,6]>");
  HloModule module = module_with({"{devices=[2]<=[2]}"});
  module.num_partitions = 8;
  EXPECT_EQ(choose_mesh(module, 0)->devices(), 8);
  EXPECT_EQ(choose_mesh(module, 4)->devices(), 4);
}

TEST(ShardingMesh, RefusesNumbersThatDoNotFit) {
  const auto refuses = [](const std::vector<const char*>& shardings, int64_t devices,
                          const char* message) {
    try {
      choose_mesh(module_with(shardings), devices);
      ADD_FAILURE() << message;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
  };
  refuses({"{devices=[4]<=[4]}"}, 2, "for 4 devices, which 2 devices are no multiple of");
  refuses({"{devices=[4]<=[4]}"}, 6, "for 4 devices, which 6 devices are no multiple of");
  refuses({"{devices=[4]<=[4]}", "{mesh['a'=3], [{'a'}]}"}, 4, "has 3 devices");
  refuses({}, -1, "-1 devices");
  refuses({}, int64_t{1} << 40, "the most are");
}

TEST(ShardingMesh, GroupsAreAxes) {
  const Mesh mesh = parse_mesh("<a=2, b=4>");
  const auto axes = [&](const Lists& groups, bool in_order = true) {
    const auto found = axes_of_groups(groups, mesh, in_order);
    return found ? cat("{", print_axes(mesh, *found), "}") : "none";
  };
  EXPECT_EQ(axes({{0, 1, 2, 3}, {4, 5, 6, 7}}), "{b}");
  EXPECT_EQ(axes({{4, 5, 6, 7}, {0, 1, 2, 3}}), "{b}");
  EXPECT_EQ(axes({{0, 4}, {1, 5}, {2, 6}, {3, 7}}), "{a}");
  EXPECT_EQ(axes({{0, 2}, {1, 3}, {4, 6}, {5, 7}}), "{b:(1)2}");
  EXPECT_EQ(axes({{0, 1, 2, 3, 4, 5, 6, 7}}), "{a,b}");
  EXPECT_EQ(axes({{0, 4, 1, 5, 2, 6, 3, 7}}), "{b,a}");
  EXPECT_EQ(axes({{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}), "{}");
  EXPECT_EQ(axes({{0, 1}, {2, 3}}), "{b:(2)2}");  // of the first four, and so of the others
  EXPECT_EQ(axes({{1, 0}, {3, 2}, {5, 4}, {7, 6}}), "none");
  EXPECT_EQ(axes({{1, 0}, {3, 2}, {5, 4}, {7, 6}}, false), "{b:(2)2}");
  EXPECT_EQ(axes({{0, 3}, {1, 2}, {4, 7}, {5, 6}}, false), "none");
  EXPECT_EQ(axes({{0, 1}, {2, 3, 4, 5, 6, 7}}), "none");
  EXPECT_EQ(axes({{0, 8}}), "none");
  EXPECT_EQ(axes({{0, 0}, {1, 1}}), "none");
  EXPECT_EQ(axes({}), "none");
  // Every list of axes gives groups that are these axes again.
  for (const char* text : {"a", "b", "a,b", "b,a", "b:(1)2", "b:(2)2", "b:(2)2,a", "a,b:(2)2"}) {
    AxisList list;
    for (const std::string& part : split(text, ',')) list.push_back(parse_axis(mesh, part));
    Lists groups;
    for (int64_t device = 0; device < 8; ++device)
      if (mesh.coordinate(device, list) == 0) groups.push_back(mesh.group(device, list));
    EXPECT_EQ(axes(groups), cat("{", text, "}"));
  }
}

}  // namespace
}  // namespace tessera::hlo
