// Padded sizes, masks, and what the shardings of uneven dims come to.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/padding.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/mask_padding.h"
#include "partitioner/pad_dims.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

int64_t count(const Graph& graph, const OpDef& op) {
  return std::count_if(graph.instructions.begin(), graph.instructions.end(),
                       [&](const Instruction& instruction) { return instruction.is(op); });
}

// The graph after `pass`.
Graph after(std::string_view pass, const Graph& graph, const MeshPtr& mesh,
            const ShardingConfig& config, PartitionReport* report = nullptr) {
  Graph found;
  PartitionOptions options;
  options.observe = [&](std::string_view name, const Graph& each) {
    if (name == pass) found = each;
  };
  partition(graph, mesh, config, options, report);
  return found;
}

TEST(Padding, LastShardsMayBeEmpty) {
  const MeshPtr mesh = mesh_of("x=4");
  const Sharding sharding = parse_sharding(mesh, "[{x}]");
  EXPECT_EQ(sharding.local_shape({5}), Shape{2});
  EXPECT_EQ(sharding.padded_shape({5}), Shape{8});
  EXPECT_EQ(sharding.shard_start({5}, 3), std::vector<int64_t>{6});
}

Graph sum_graph(int64_t size, ReduceKind kind) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {size, 2}}, {"rows", "columns"});
  b.output(ops::reduce(b, ops::exponential(b, x), {0}, kind), "y");
  return graph;
}

TEST(Padding, AReductionIsMaskedWithItsIdentity) {
  const MeshPtr mesh = mesh_of("x=4");
  const ShardingConfig config = config_of("", "rows=x");
  for (ReduceKind kind : {ReduceKind::sum, ReduceKind::max, ReduceKind::min})
    for (int64_t size : {1, 2, 5, 7, 8}) {
      const Graph graph = sum_graph(size, kind);
      EXPECT_EQ(check_every_pass(graph, mesh, config), "") << size;
      const Graph masked = after("mask_padding", graph, mesh, config);
      EXPECT_EQ(count(masked, ops::kMaskPadding), size == 1 || size == 8 ? 0 : 1);
    }
}

TEST(Padding, StoredZerosNeedNoMask) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4, 5}}, {"batch", "embed"});
  const Value w = b.input(InputKind::parameter, "w", {DType::f64, {5, 7}}, {"embed", "mlp"});
  const Value v = b.input(InputKind::parameter, "v", {DType::f64, {7, 5}}, {"mlp", "embed"});
  const Value h = ops::tanh(b, ops::matmul(b, x, w));
  b.output(ops::matmul(b, h, v), "y");
  const MeshPtr mesh = mesh_of("m=3");
  const ShardingConfig config = config_of("mlp=m", "");
  EXPECT_EQ(check_every_pass(graph, mesh, config), "");
  // tanh(x 0) = 0 along mlp, on both sides of the contraction.
  EXPECT_EQ(count(after("mask_padding", graph, mesh, config), ops::kMaskPadding), 0);
}

TEST(Padding, WholeDimsAreStoredAsTheyAre) {
  Graph graph;
  Builder b(graph);
  const Value w = b.input(InputKind::parameter, "w", {DType::f64, {5, 3}}, {"embed", "mlp"});
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4, 5}}, {"batch", "embed"});
  b.output(ops::matmul(b, x, w), "y");
  const MeshPtr mesh = mesh_of("d=4");
  const ShardingConfig config = config_of("embed=d", "batch=d");
  EXPECT_EQ(check_every_pass(graph, mesh, config), "");
  const Graph padded = after("pad_dims", graph, mesh, config);
  for (const Instruction& instruction : padded.instructions)
    for (const ResultInfo& result : instruction.results)
      for (int d = 0; d < result.type.rank(); ++d)
        if (result.sharding->dims[static_cast<size_t>(d)].axes.empty() &&
            !instruction.is(ops::kReshard)) {
          EXPECT_EQ(result.stored_shape()[d], result.type.shape[d])
              << print_graph(padded);
        }
}

TEST(Padding, PerceptronsOfAnySizeOnAnyMesh) {
  for (const char* mesh : {"d=3", "d=5", "d=2,m=3", "d=3,m=2", "d=2,m=2", "m=7"})
    for (int64_t size : {5, 6, 7}) {
      PerceptronOptions options{.batch = 6, .embed = size, .hidden = size + 4};
      const bool has_m = std::string_view(mesh).find('m') != std::string_view::npos;
      const bool has_d = std::string_view(mesh).find('d') != std::string_view::npos;
      const std::string m = has_m ? "m" : "", d = has_d ? "d" : "";
      for (const auto& config :
           {config_of("mlp=" + m, "batch=" + d), config_of("embed=" + d + " mlp=" + m, "batch=" + d),
            config_of("mlp=" + d, "batch=" + d + " mlp=" + m),
            config_of("embed=" + m, "embed=" + m + " batch=" + d)})
        EXPECT_EQ(check_every_pass(perceptron(options), mesh_of(mesh), config), "")
            << mesh << " " << size;
    }
}

TEST(Padding, ADimOfSizeOneMayBeInShards) {
  Graph graph;
  Builder b(graph);
  const MeshPtr mesh = mesh_of("a=4,b=2");
  const Value x = b.input(InputKind::data, "x", {DType::f64, {7, 1, 8}});
  graph.info(x).sharding = parse_sharding(mesh, "[{}, {b}, {}]");
  const Value y = b.annotate(ops::tanh(b, x), {}, "y");
  graph.info(y).sharding = parse_sharding(mesh, "[{a}, {}, {}]");
  b.output(y, "out");
  EXPECT_EQ(check_every_pass(graph, mesh, {}), "");
}

TEST(Padding, LargeWasteIsAWarning) {
  const Graph graph = sum_graph(5, ReduceKind::sum);
  PartitionReport report;
  partition(graph, mesh_of("x=4"), config_of("", "rows=x"), {}, &report);
  ASSERT_EQ(report.padded.size(), 1u);
  EXPECT_NEAR(report.padded[0].waste, 0.6, 1e-12);
  EXPECT_NE(join(report.warnings, "\n").find("60 % more; change the size"), std::string::npos)
      << join(report.warnings, "\n");
}

// "resize_padding, reshard ..." by which x gets to its output.
std::string way_of(const char* mesh, Shape shape, const char* from, const char* to,
                   PartitionReport* report = nullptr) {
  MeshProgram p(mesh, DType::f64);
  p.output(p.input("x", std::move(shape), from), to);
  std::vector<std::string> steps;
  PartitionOptions options;
  options.machine.inside_host.latency = 0;  // bytes decide, though these are few
  options.observe = [&](std::string_view name, const Graph& graph) {
    if (name != "pad_dims") return;
    for (const Instruction& instruction : graph.instructions)
      if (!instruction.operands.empty())
        steps.push_back(cat(instruction.op->name, " ", *instruction.results[0].sharding, " ",
                            instruction.results[0].stored_shape()));
  };
  partition(p.graph, p.mesh, {}, options, report);
  return join(steps, "; ");
}

TEST(Padding, TwoSizesOfOneDimMeetWhereShardsAreNear) {
  // As it lies before, as it lies after, in the axes of both, whole.
  EXPECT_EQ(way_of("x=2,y=2", {5}, "[{x}]", "[{x,y}]"),
            "resize_padding [{x}] [8]; reshard [{x,y}] [8]");
  EXPECT_EQ(way_of("x=2,y=2", {5}, "[{x,y}]", "[{x}]"),
            "reshard [{x}] [8]; resize_padding [{x}] [6]");
  EXPECT_EQ(way_of("x=2,y=2,z=3", {13}, "[{x,y}]", "[{x,z}]"),
            "reshard [{x}] [16]; resize_padding [{x}] [18]; reshard [{x,z}] [18]");
  EXPECT_EQ(way_of("x=2,y=3", {7}, "[{x}]", "[{y}]"),
            "reshard [{}] [8]; resize_padding [{}] [9]; reshard [{y}] [9]");
  // Of more rows than devices a third size costs next to nothing.
  EXPECT_EQ(way_of("x=3,y=5", {1000}, "[{x}]", "[{y}]"),
            "resize_padding [{x}] [1005]; reshard [{y}] [1005]; resize_padding [{y}] [1000]");
}

TEST(Padding, OnlyWhatGoesThroughTheWholeDimIsWarnedOf) {
  PartitionReport near, far;
  way_of("x=2,y=2", {15}, "[{x}]", "[{x,y}]", &near);
  way_of("x=2,y=2", {13}, "[{x}]", "[{x,y}]", &near);
  for (const std::string& warning : near.warnings)
    EXPECT_EQ(warning.find("gather"), std::string::npos) << warning;
  way_of("x=2,y=3", {7}, "[{x}]", "[{y}]", &far);
  EXPECT_NE(join(far.warnings, "\n").find("1 reshard of graph \"graph\" gathers a dim"), std::string::npos)
      << join(far.warnings, "\n");
}

// All lyings of a dim over these axes, each in any order.
std::vector<std::string> lyings_over(const Mesh& mesh) {
  std::vector<std::string> names, all;
  for (const MeshAxis& axis : mesh.axes()) names.push_back(axis.name);
  for (size_t taken = 0; taken < (size_t{1} << names.size()); ++taken) {
    std::vector<std::string> some;
    for (size_t a = 0; a < names.size(); ++a)
      if (taken >> a & 1) some.push_back(names[a]);
    do all.push_back(cat("{", join(some, ","), "}"));
    while (std::next_permutation(some.begin(), some.end()));
  }
  return all;
}

// Every lying to every other, by whatever way is cheapest, with garbage in all padding.
TEST(Padding, AnySizeFromAnyLyingToAnyOther) {
  int count = 0;
  PartitionOptions options;
  options.machine.inside_host.latency = 1e-12;  // bytes decide
  for (const char* text : {"x=2,y=2", "x=2,y=3", "x=4,y=2", "x=5,y=2"}) {
    const MeshPtr mesh = mesh_of(text);
    for (const std::string& from : lyings_over(*mesh))
      for (const std::string& to : lyings_over(*mesh))
        for (int64_t size : {2, 3, 5, 7, 9, 13, 41}) {
          MeshProgram p(text, DType::f64);
          const Value x = p.input("x", {size, 3}, cat("[", from, ", {}]").c_str());
          p.output(x, cat("[", to, ", {}]").c_str());
          // Something needs zeros on the way, and the sum is over what is valid only.
          p.output(ops::reduce(p.b, ops::exponential(p.b, x), {0}));
          EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}, options), "")
              << text << " " << size << " " << from << " " << to;
          ++count;
        }
  }
  EXPECT_GT(count, 500);
}

// Between ops, in two dims at once, of partial sums and of integers.
TEST(Padding, TwoSizesBetweenOps) {
  for (const auto& [mesh, inside, outside] :
       {std::tuple{"x=2,y=2,z=2", "[{x}, {y}]", "[{x,z}, {y}]"},
        std::tuple{"x=2,y=2,z=2", "[{x}, {y}]", "[{y,z}, {x}]"},
        std::tuple{"x=2,y=2,z=2", "[{x,z}, {y}]", "[{x}, {y,z}]"},
        std::tuple{"x=2,y=2,z=3", "[{x,y}, {}]", "[{x,z}, {}]"},
        std::tuple{"x=2,y=4", "[{x,y}, {}]", "[{x}, {y}]"},
        std::tuple{"x=2,y=3", "[{x}, {y}]", "[{x,y}, {}]"}})
    for (const Shape& shape : {Shape{5, 5}, Shape{13, 9}, Shape{7, 3}}) {
      MeshProgram p(mesh, DType::f64);
      const Value x = p.input("x", shape, inside), w = p.input("w", {shape[1], shape[1]}, "[{}, {}]");
      const Value y = p.b.annotate(ops::exponential(p.b, x), {}, "y");
      p.graph.info(y).sharding = parse_sharding(p.mesh, inside);
      const Value z = p.b.annotate(ops::exponential(p.b, ops::negate(p.b, y)), {}, "z");
      p.graph.info(z).sharding = parse_sharding(p.mesh, outside);
      p.output(ops::matmul(p.b, z, w), outside);
      p.output(ops::reduce(p.b, z, {0, 1}, ReduceKind::max));
      p.output(ops::convert(p.b, ops::scale(p.b, z, 100), DType::s32), inside);
      EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "") << mesh << " " << inside << " " << outside;
      EXPECT_EQ(check_on_threads(p.graph, p.mesh, random_inputs(p.graph, 5), 1e-10), "")
          << mesh << " " << inside << " " << outside;
    }
}

}  // namespace
}  // namespace tessera::testing
