// Shardings over other meshes of the same devices: device orders, other axes.
#include "partitioner/other_meshes.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/op_list.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/mesh_translation.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct OtherMeshProgram : MeshProgram {
  explicit OtherMeshProgram(const char* mesh_text) : MeshProgram(mesh_text, DType::f64) {}

  std::string collectives() const {
    PartitionOptions options;
    options.bucket_bytes = 0;
    PartitionReport report;
    partition(graph, mesh, {}, options, &report);
    return collectives_of(report);
  }
  // By the interpreter after every pass, and on threads with real messages.
  std::string check() const {
    const std::string failure = check_every_pass(graph, mesh, {});
    return failure.empty() ? check_on_threads(graph, mesh, random_inputs(graph, 5), 1e-10)
                           : failure;
  }
};

std::string translated(const char* home, const char* sharding) {
  const MeshPtr mesh = mesh_of(home);
  const Sharding other = parse_sharding(mesh, sharding);
  return cat(MeshTranslation(*other.mesh, mesh, {&other, 1}).translate(other));
}

TEST(MeshTranslation, KeepsTilesWhereTheyAre) {
  EXPECT_EQ(translated("a=2,b=2", "[{x}, {}] on <x=4>"), "[{a,b}, {}]");
  EXPECT_EQ(translated("a=4", "[{y}, {x}] on <x=2, y=2>"), "[{a:(2)2}, {a:(1)2}]");
  // The order of a transposed mesh.
  EXPECT_EQ(translated("a=2,b=2", "[{a}, {b}] on <a=2, b=2, device_order=[0,2,1,3]>"),
            "[{b}, {a}]");
  // No boundary of one lies on one of the other: matched by size.
  EXPECT_EQ(translated("a=2,b=3", "[{x}, {y}] on <x=3, y=2>"), "[{b}, {a}]");
  EXPECT_EQ(translated("a=4", "[{a, ?}] partial{max: b} on <a=2, b=2>"),
            "[{a:(1)2,?}] partial{max: a:(2)2}");
}

TEST(MeshTranslation, Refusals) {
  EXPECT_THROW(translated("a=2,b=2", "[{x}] on <x=8>"), ConfigError);
  // Sub-axes that do not nest.
  const MeshPtr home = mesh_of("a=6"), other = mesh_of("x=6");
  const std::vector<Sharding> used = {parse_sharding(other, "[{x:(1)2}]"),
                                      parse_sharding(other, "[{x:(1)3}]")};
  EXPECT_THROW(MeshTranslation(*other, home, used), ConfigError);
}

TEST(OtherMeshes, WhatIsTheSameUnderAnotherNameDoesNotMove) {
  OtherMeshProgram p("a=2,b=2");
  p.output(ops::tanh(p.b, p.input("x", {8, 4}, "[{x}, {}] on <x=4>")), "[{x}, {}] on <x=4>");
  EXPECT_EQ(p.collectives(), "");
  EXPECT_EQ(p.check(), "");
}

TEST(OtherMeshes, AnotherOrderIsOnePermute) {
  OtherMeshProgram p("x=4");
  const char* order = "[{x}, {}] on <x=4, device_order=[0,3,1,2]>";
  const Value x = p.input("x", {8, 4}, order);
  p.output(ops::tanh(p.b, x), "[{x}, {}]");
  EXPECT_EQ(p.collectives(), "collective_permute{x} x1 64 B");
  p.output(ops::add(p.b, x, p.input("y", {8, 4}, "[{x}, {}]")), order);
  EXPECT_EQ(p.collectives(), "collective_permute{x} x2 128 B");
  EXPECT_EQ(p.check(), "");
  const Graph local = partition(p.graph, p.mesh, {});
  EXPECT_EQ(print_sharding(local.sharding(local.inputs[0].value), p.mesh.get()), order);
  EXPECT_EQ(print_sharding(local.sharding(local.outputs[1].value), p.mesh.get()), order);
}

// Only devices that lack their tile are sent one; replicas suffice.
TEST(OtherMeshes, ReplicasThatAreInPlaceStay) {
  OtherMeshProgram p("x=2,y=2");
  const MeshPtr other = mesh_of("<x=2, y=2, device_order=[0,1,3,2]>");
  const Sharding from = parse_sharding(other, "[{x}]"), to = parse_sharding(p.mesh, "[{x}]");
  EXPECT_TRUE(relabelling(from, to, *p.mesh).empty());
  EXPECT_EQ(relabelling(parse_sharding(other, "[{x,y}]"), parse_sharding(p.mesh, "[{x,y}]"), *p.mesh),
            (Ints{0, 1, 3, 2}));
}

TEST(OtherMeshes, AnOutputLiesAsTheInputThatItOverwrites) {
  OtherMeshProgram p("x=4");
  const char* order = "[{x}] on <x=4, device_order=[2,3,1,0]>";
  const Value w = p.input("w", {8}, order, InputKind::parameter);
  p.b.output(ops::scale(p.b, w, 0.5), "w", 0);
  const Graph local = partition(p.graph, p.mesh, {});
  EXPECT_EQ(print_sharding(local.sharding(local.outputs[0].value), p.mesh.get()), order);
  EXPECT_EQ(p.check(), "");
}

TEST(OtherMeshes, AnnotationsInBetweenSayHowAValueIsTiled) {
  OtherMeshProgram p("a=2,b=2");
  const Value x = p.input("x", {8, 8}, "[{a}, {}]"), w = p.input("w", {8, 8}, "[{}, {b}]");
  const Value y = ops::matmul(p.b, x, w);
  p.graph.info(y).name = "y";
  p.graph.info(y).sharding =
      parse_sharding(p.mesh, "[{u}, {v}] on <u=2, v=2, device_order=[3,1,2,0]>");
  p.output(ops::tanh(p.b, y));
  EXPECT_EQ(p.collectives(), "");
  EXPECT_EQ(p.check(), "");
}

TEST(OtherMeshes, Refusals) {
  OtherMeshProgram p("x=4");
  p.output(p.input("x", {8}, "[{z}] on <z=8>"));
  try {
    partition(p.graph, p.mesh, {});
    ADD_FAILURE() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("<z=8> of 8 devices"), std::string::npos) << error.what();
  }
}

// Any order of devices and any axes, in and out, uneven too.
TEST(OtherMeshes, RandomOrders) {
  struct Devices {
    const char* home;
    std::vector<const char*> others;
  };
  const Devices all[] = {{"a=2,b=2", {"x=4", "a=2,b=2"}},
                         {"a=4", {"x=2,y=2", "a=4"}},
                         {"a=2,b=4", {"x=8", "x=4,y=2", "p=2,q=2,r=2"}},
                         {"a=8", {"x=2,y=4", "a=8"}},
                         {"a=2,b=3", {"x=3,y=2", "x=6"}}};
  std::mt19937_64 random(11);
  for (const Devices& devices : all)
    for (int round = 0; round < 6; ++round) {
      OtherMeshProgram p(devices.home);
      auto foreign = [&](int rank, bool may_be_partial) {
        const Mesh plain = parse_mesh(devices.others[random() % devices.others.size()]);
        std::vector<int64_t> order(static_cast<size_t>(plain.devices()));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), random);
        Sharding sharding(std::make_shared<const Mesh>(std::vector<MeshAxis>(plain.axes().begin(),
                                                                             plain.axes().end()),
                                                       order),
                          rank);
        for (int a = 0; a < plain.rank(); ++a) {
          const auto where = static_cast<int>(random() % static_cast<uint64_t>(rank + 2));
          if (where < rank)
            sharding.dims[static_cast<size_t>(where)].axes.push_back(plain.axis(a));
          else if (may_be_partial && where == rank)
            sharding.partial.push_back(plain.axis(a));
        }
        for (DimSharding& dim : sharding.dims) dim.axes = canonical(dim.axes);
        sharding.partial = canonical(sharding.partial);
        return sharding;
      };
      const Shape shape{8 + static_cast<int64_t>(random() % 5), 8};
      const Value x = p.input("x", shape, "[{}, {}]"), y = p.input("y", {8, 8}, "[{}, {}]");
      p.graph.info(x).sharding = foreign(2, true);
      p.graph.info(y).sharding = foreign(2, false);
      const Value z = ops::matmul(p.b, ops::tanh(p.b, x), y);
      for (const Value value : {z, ops::transpose(p.b, z, {1, 0}), ops::reduce(p.b, z, {0})}) {
        p.output(value);
        p.graph.outputs.back().sharding = foreign(p.b.type(value).rank(), false);
      }
      const std::string text = print_graph(p.graph);
      EXPECT_EQ(print_graph(parse_graph(text, all_ops())), text);
      EXPECT_EQ(p.check(), "") << text;
    }
}

}  // namespace
}  // namespace tessera::testing
