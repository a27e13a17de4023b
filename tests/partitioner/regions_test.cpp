// Loops, branches and calls: shardings flow through them, every pass goes into them, and what moves
// at their boundary moves outside.
#include "partitioner/regions.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/contraction.h"
#include "core/ops/control.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/annotate.h"
#include "partitioner/explain.h"
#include "partitioner/propagate.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

GraphRef counts_to(const MeshPtr& mesh, const std::vector<TensorType>& carried, int64_t turns) {
  return region(mesh, carried, [&](Builder& b, std::vector<Value> values) {
    const Value end = ops::constant(b, static_cast<double>(turns), {DType::s32, {}});
    return std::vector{ops::compare(b, values.back(), end, CompareDirection::lt)};
  });
}

Value next(Builder& b, Value counter) {
  return ops::add(b, counter, ops::constant(b, 1.0, {DType::s32, {}}));
}

struct RegionProgram : MeshProgram {
  explicit RegionProgram(const char* mesh_text) : MeshProgram(mesh_text, DType::f64) {}

  Value zero() { return ops::constant(b, 0.0, {DType::s32, {}}); }
  PropagateResult propagated() { return propagate(annotate(graph, mesh, {}), origins); }

  Origins origins;
};

std::vector<TensorType> types(Builder& b, const std::vector<Value>& values) {
  std::vector<TensorType> all;
  for (Value value : values) all.push_back(b.type(value));
  return all;
}

int64_t count(const Graph& graph, const OpDef& op) {
  int64_t found = 0;
  for_each_region(graph, [&](const Graph& each) {
    for (const Instruction& instruction : each.instructions) found += instruction.is(op);
  });
  return found;
}

// x -> tanh(x w) three times.
RegionProgram layers(const char* x_sharding, Value* out) {
  RegionProgram p("data=2,model=2");
  const Value x = p.input("x", {8, 8}, x_sharding), w = p.input("w", {8, 8}, "[{}, {}]");
  const std::vector<Value> init = {x, w, p.zero()};
  const auto carried = types(p.b, init);
  const GraphRef body = region(p.mesh, carried, [&](Builder& b, std::vector<Value> v) {
    return std::vector{ops::tanh(b, ops::matmul(b, v[0], v[1])), v[1], next(b, v[2])};
  });
  *out = ops::while_loop(p.b, init, counts_to(p.mesh, carried, 3), body)[0];
  p.b.output(*out, "y");
  return p;
}

TEST(Regions, ShardingsFlowThroughALoop) {
  Value out;
  RegionProgram p = layers("[{data}, {}]", &out);
  const PropagateResult result = p.propagated();
  EXPECT_EQ(cat(result.graph.sharding(out).closed()), "[{data}, {}]");
  const Graph& body = *result.graph.at(out).attributes.get<GraphRef>(Attr::body);
  for (const Instruction& instruction : body.instructions) {
    if (instruction.op->name != std::string_view("tanh")) continue;
    EXPECT_EQ(cat(instruction.results[0].sharding->closed()), "[{data}, {}]");
  }
  const std::string why = explain(result.graph, p.origins, result.conflicts, cat("%", out.instruction));
  EXPECT_NE(why.find("because it passes through while %"), std::string::npos) << why;
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
}

TEST(Regions, BackwardThroughALoopToo) {
  Value out;
  RegionProgram p = layers("[{?}, {?}]", &out);
  p.graph.info(out).sharding = parse_sharding(p.mesh, "[{data}, {}]");
  p.graph.info(out).name = "out";
  EXPECT_EQ(cat(p.propagated().graph.sharding({0, 0}).closed()), "[{data}, {}]");
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
}

// Gradients of four microbatches are added up; each is a product over the sharded batch.
TEST(Regions, AccumulatedPartialsAreReducedOnceAfterTheLoop) {
  RegionProgram p("data=4");
  const Value x = p.input("x", {64, 8}, "[{data}, {}]"), dy = p.input("dy", {64, 16}, "[{data}, {}]");
  const Value sum = ops::constant(p.b, 0.0, {DType::f64, {8, 16}});
  const std::vector<Value> init = {sum, x, dy, p.zero()};
  const auto carried = types(p.b, init);
  const GraphRef body = region(p.mesh, carried, [&](Builder& b, std::vector<Value> v) {
    const Value gradient = ops::dot_general(b, v[1], v[2], {{0}, {0}});
    return std::vector{ops::add(b, v[0], gradient), v[1], v[2], next(b, v[3])};
  });
  const Value total = ops::while_loop(p.b, init, counts_to(p.mesh, carried, 4), body, 4)[0];
  p.b.output(ops::scale(p.b, total, 0.25), "gradient");
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
  const Graph local = partition(p.graph, p.mesh, {});
  EXPECT_EQ(count(local, ops::kAllReduce), 1) << print_graph(local);
  int64_t outside = 0;
  for (const Instruction& instruction : local.instructions)
    outside += instruction.is(ops::kAllReduce);
  EXPECT_EQ(outside, 1) << print_graph(local);
  EXPECT_EQ(count(local, ops::kAllGather), 0) << print_graph(local);
}

TEST(Regions, ReshardsStandBeforeTheLoop) {
  // The body wants w in columns; it comes in rows.
  RegionProgram p("model=2");
  const Value x = p.input("x", {8, 8}, "[{}, {}]"), w = p.input("w", {8, 8}, "[{model}, {}]");
  const std::vector<Value> init = {x, w, p.zero()};
  const auto carried = types(p.b, init);
  const GraphRef body = region(p.mesh, carried, [&](Builder& b, std::vector<Value> v) {
    const Value kept = b.annotate(v[1], {}, "");
    b.graph().info(kept).sharding = parse_sharding(p.mesh, "[{}, {model}]");
    return std::vector{ops::tanh(b, ops::matmul(b, v[0], kept)), v[1], next(b, v[2])};
  });
  const Value out = ops::while_loop(p.b, init, counts_to(p.mesh, carried, 3), body)[0];
  p.b.output(out, "y");
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
  const Graph local = partition(p.graph, p.mesh, {});
  for (const Instruction& instruction : local.instructions)
    if (instruction.is(ops::kWhile)) {
      const Graph& inner = *instruction.attributes.get<GraphRef>(Attr::body);
      EXPECT_EQ(inner.type(inner.inputs[1].value).shape, (Shape{8, 4})) << print_graph(local);
      EXPECT_EQ(count(inner, ops::kAllToAll), 0) << print_graph(local);
    }
}

TEST(Regions, BranchesAndCalls) {
  RegionProgram p("data=2,model=2");
  const Value x = p.input("x", {8, 8}, "[{data}, {}]"), w = p.input("w", {8, 8}, "[{}, {model}]");
  const Value index = p.b.input(InputKind::scalar, "index", {DType::s32, {}});
  const std::vector<TensorType> both = types(p.b, {x, w});
  const GraphRef one = region(p.mesh, both, [](Builder& b, std::vector<Value> v) {
    return std::vector{ops::matmul(b, v[0], v[1])};
  });
  const GraphRef two = region(p.mesh, both, [](Builder& b, std::vector<Value> v) {
    return std::vector{ops::tanh(b, ops::add(b, v[0], v[1]))};
  });
  const Value chosen = ops::case_of(p.b, index, {x, w}, {one, two})[0];
  const Value called = ops::call(p.b, one, {chosen, w})[0];
  p.b.output(ops::reduce(p.b, called, {1}), "y");
  EXPECT_EQ(cat(p.propagated().graph.sharding(chosen).closed()), "[{data}, {model}]");
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
}

// Manual over data, automatic over model: the body reduces over data itself, the product inside is
// cut over model.
TEST(Regions, ManualComputationsAreAutomaticOverTheOtherAxes) {
  RegionProgram p("data=2,model=2");
  const Value x = p.input("x", {8, 8}, "[{data}, {}]"), w = p.input("w", {8, 8}, "[{}, {model}]");
  const AxisList data{p.mesh->axis("data")};
  const GraphRef body =
      region(p.mesh, {{DType::f64, {4, 8}}, {DType::f64, {8, 8}}},
             [&](Builder& b, std::vector<Value> v) {
               const Value product = ops::tanh(b, ops::matmul(b, v[0], v[1]));
               const Value sum = ops::reduce(b, product, {0});
               return std::vector{product, ops::all_reduce(b, sum, data)};
             });
  const std::vector<Value> results = ops::manual_computation(
      p.b, body, {x, w}, data,
      {parse_sharding(p.mesh, "[{data}, {?}]"), parse_sharding(p.mesh, "[{?}, {?}]")},
      {parse_sharding(p.mesh, "[{data}, {?}]"), parse_sharding(p.mesh, "[{?}]")});
  p.b.output(ops::tanh(p.b, results[0]), "y");
  p.b.output(results[1], "sum");
  EXPECT_EQ(cat(p.propagated().graph.sharding(results[0]).closed()), "[{data}, {model}]");
  EXPECT_EQ(check_every_pass(p.graph, p.mesh, {}), "");
  const Graph local = partition(p.graph, p.mesh, {});
  EXPECT_EQ(count(local, ops::kAllReduce), 1) << print_graph(local);
  EXPECT_EQ(count(local, ops::kAllGather), 0) << print_graph(local);
}

TEST(Regions, CollectivesOutsideManualComputationsAreRefused) {
  RegionProgram p("data=2");
  const Value x = p.input("x", {8, 8}, "[{data}, {}]");
  p.b.push_scope("block.7");
  p.b.output(ops::all_reduce(p.b, x, {p.mesh->axis("data")}), "y");
  try {
    partition(p.graph, p.mesh, {});
    FAIL() << "accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("all_reduce %1 in block.7 stands outside a manual_computation"),
              std::string::npos)
        << text;
  }
}

TEST(Regions, ProgramsThatDoNotVerifyAreRefused) {
  RegionProgram p("data=2");
  const Value x = p.input("x", {8, 8}, "[{data}, {}]");
  const Value y = ops::tanh(p.b, x);
  p.graph.info(y).type.shape = {4, 4};
  p.b.output(y, "y");
  try {
    partition(p.graph, p.mesh, {});
    FAIL() << "accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("cannot be partitioned, as it does not verify"), std::string::npos) << text;
    EXPECT_NE(text.find("tanh"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace tessera::testing
