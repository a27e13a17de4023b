// The passes around communication, one at a time.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/builder.h"
#include "core/ops/contraction.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "partitioner/annotate.h"
#include "partitioner/bucket_collectives.h"
#include "partitioner/check_shardings.h"
#include "partitioner/choose_op_shardings.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/localize.h"
#include "partitioner/peepholes.h"
#include "partitioner/place_reductions.h"
#include "partitioner/propagate.h"
#include "partitioner/reshards_to_collectives.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

struct PassProgram : MeshProgram {
  explicit PassProgram(const char* mesh_text)
      : MeshProgram(mesh_text), planner(mesh, machine_model("cpu-shm")) {}

  Graph explicit_reshards() {
    Origins origins;
    return insert_reshards(
        choose_op_shardings(propagate(annotate(graph, mesh, {}), origins).graph, planner));
  }
  Graph collectives() {
    return reshards_to_collectives(place_reductions(explicit_reshards(), planner), planner);
  }

  ReshardPlanner planner;
};

// "dot_general tanh all_reduce": the ops that are neither inputs nor constants, in order.
std::string ops_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const Instruction& instruction : graph.instructions)
    if (!instruction.operands.empty()) names.emplace_back(instruction.op->name);
  return join(names, " ");
}

const TensorType kMatrix{DType::f32, {512, 512}};

TEST(PlaceReductions, OneReductionBehindASum) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  const Value c = p.input("c", kMatrix, "[{}, {x}]"), d = p.input("d", kMatrix, "[{x}, {}]");
  p.output(ops::tanh(p.b, ops::add(p.b, ops::matmul(p.b, a, b), ops::matmul(p.b, c, d))));
  EXPECT_EQ(ops_of(p.collectives()), "dot_general dot_general add all_reduce tanh");
}

TEST(PlaceReductions, BeforeABroadcastAndBehindAReduction) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  const Value product = ops::matmul(p.b, a, b);
  p.output(ops::tanh(p.b, ops::reduce(p.b, product, {0})));
  EXPECT_EQ(ops_of(p.collectives()), "dot_general reduce all_reduce tanh");

  PassProgram q("x=4");
  const Value v = q.input("v", kMatrix, "[{x}, {}]");
  q.output(ops::tanh(q.b, ops::broadcast_in_dim(q.b, ops::reduce(q.b, v, {0}), {64, 512}, {1})));
  EXPECT_EQ(ops_of(q.collectives()), "reduce all_reduce broadcast_in_dim tanh");
}

TEST(PlaceReductions, ScattersWhereAllUsersWantAShard) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  const Value m = p.input("m", kMatrix, "[{x}, {}]");
  const Value product = ops::matmul(p.b, a, b);
  p.output(ops::maximum(p.b, product, m), "[{x}, {}]");
  p.output(ops::multiply(p.b, ops::tanh(p.b, product), m), "[{x}, {}]");
  EXPECT_EQ(ops_of(p.collectives()), "dot_general reduce_scatter maximum tanh multiply");
}

TEST(PlaceReductions, NotAcrossANarrowingConvert) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  p.output(ops::convert(p.b, ops::matmul(p.b, a, b), DType::bf16));
  EXPECT_EQ(ops_of(p.collectives()), "dot_general all_reduce convert");
}

TEST(PlaceReductions, DemandedPartialOutputsAreLeftAlone) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  const Value old = p.input("old", kMatrix, "[{}, {}] partial{sum: x}");
  p.output(ops::add(p.b, old, ops::matmul(p.b, a, b)), "[{}, {}] partial{sum: x}");
  EXPECT_EQ(ops_of(p.collectives()), "dot_general add");
}

TEST(PlaceReductions, MaxPartialsPassOnlyMonotoneOps) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{x}, {}]");
  const Value largest = ops::reduce(p.b, a, {0}, ReduceKind::max);
  p.output(ops::tanh(p.b, ops::negate(p.b, largest)));
  EXPECT_EQ(ops_of(p.collectives()), "reduce all_reduce negate tanh");
}

TEST(CheckShardings, FindsWhatNeedsCommunication) {
  PassProgram p("x=4");
  const Value a = p.input("a", kMatrix, "[{}, {x}]"), b = p.input("b", kMatrix, "[{x}, {}]");
  p.output(ops::tanh(p.b, ops::matmul(p.b, a, b)));
  Graph graph = p.collectives();
  check_shardings(graph);
  Graph without_partial = graph;
  for (Instruction& instruction : without_partial.instructions)
    for (ResultInfo& result : instruction.results) result.sharding->partial.clear();
  EXPECT_THROW(check_shardings(without_partial), InternalError);
  Graph other_dims = graph;
  other_dims.info({0, 0}).sharding = parse_sharding(p.mesh, "[{}, {}]");
  EXPECT_THROW(check_shardings(other_dims), InternalError);
  Graph skipped = graph;  // tanh reads the partial product
  for (Instruction& instruction : skipped.instructions)
    if (instruction.is(ops::kTanh)) instruction.operands[0].instruction -= 1;
  EXPECT_THROW(check_shardings(skipped), InternalError);
}

TEST(Peepholes, EqualReshardsAreMergedExceptAcrossRecomputeAndPasses) {
  auto reshards = [](const std::string& second_scope, bool second_recompute, const char* to) {
    Graph graph;
    const MeshPtr mesh = mesh_of("x=4");
    graph.mesh = mesh;
    Builder b(graph);
    const Value a = b.input(InputKind::parameter, "a", kMatrix);
    graph.info(a).sharding =
        parse_sharding(mesh, to == std::string("[{}, {}]") ? "[{x}, {}]" : "[{}, {}]");
    for (int i = 0; i < 2; ++i) {
      b.set_scope(i ? second_scope : "block.0");
      b.set_recompute(i && second_recompute);
      const Value r = ops::reshard(b, a, parse_sharding(mesh, to));
      graph.info(r).sharding = parse_sharding(mesh, to);
      b.output(r, cat("y", i));
    }
    return merge_reshards(graph).instructions.size() - 1;
  };
  EXPECT_EQ(reshards("block.0", false, "[{}, {}]"), 1u);
  EXPECT_EQ(reshards("block.0", true, "[{}, {}]"), 2u);
  EXPECT_EQ(reshards("block.0/backward", false, "[{}, {}]"), 2u);  // a gather is not kept that long
  EXPECT_EQ(reshards("block.0/backward", false, "[{x}, {}]"), 1u);  // a slice may be
}

TEST(Peepholes, AllReduceAndSliceBecomeReduceScatter) {
  Graph graph;
  const MeshPtr mesh = mesh_of("x=4");
  graph.mesh = mesh;
  Builder b(graph);
  const Value a = b.input(InputKind::data, "a", kMatrix);
  graph.info(a).sharding = parse_sharding(mesh, "[{}, {}] partial{sum: x}");
  const Value sum = ops::all_reduce(b, a, {mesh->axis("x")});
  graph.info(sum).sharding = parse_sharding(mesh, "[{}, {}]");
  for (int i = 0; i < 2; ++i) {
    const Value shard = ops::all_slice(b, sum, 1, {mesh->axis("x")});
    graph.info(shard).sharding = parse_sharding(mesh, "[{}, {x}]");
    b.output(shard, cat("y", i));
    graph.outputs.back().sharding = parse_sharding(mesh, "[{}, {x}]");
  }
  const Graph scattered = make_reduce_scatters(graph);
  EXPECT_EQ(ops_of(scattered), "reduce_scatter");
  check_shardings(scattered);
}

TEST(Buckets, JoinWhatIsReadyUpToTheLimit) {
  PassProgram p("x=2");
  std::vector<Value> values;
  for (int i = 0; i < 4; ++i) {
    const Value a = p.input(cat("a", i).c_str(), {DType::f32, {4, 8}}, "[{}, {x}]");
    p.output(ops::tanh(p.b, ops::reduce(p.b, a, {1})));
  }
  // Four sums of four floats; each is needed by its tanh at once, so nothing can be joined ...
  const Graph local = localize(p.collectives());
  EXPECT_EQ(ops_of(bucket_collectives(local, 1 << 20)), ops_of(local));

  // ... unless they are all made first.
  PassProgram q("x=2");
  for (int i = 0; i < 4; ++i)
    values.push_back(
        ops::reduce(q.b, q.input(cat("a", i).c_str(), {DType::f32, {4, 8}}, "[{}, {x}]"), {1}));
  for (Value value : values) q.output(ops::tanh(q.b, value));
  auto reductions = [&](int64_t limit) {
    const Graph joined = bucket_collectives(localize(q.collectives()), limit);
    std::vector<std::string> types;
    for (const Instruction& instruction : joined.instructions)
      if (instruction.is(ops::kAllReduce)) types.push_back(cat(instruction.results[0].type));
    return join(types, " ");
  };
  EXPECT_EQ(reductions(0), "f32[4] f32[4] f32[4] f32[4]");
  EXPECT_EQ(reductions(1 << 20), "f32[16]");
  EXPECT_EQ(reductions(3 * 16), "f32[12] f32[4]");
}

TEST(Localize, PositionalOpsGetTheirPlace) {
  PassProgram p("x=4");
  p.output(ops::iota(p.b, {DType::s32, {8, 4}}, 0), "[{x}, {}]");
  Graph local = localize(p.collectives());
  EXPECT_EQ(ops_of(local), "multiply iota");  // axis_index has no operand
  EXPECT_EQ(cat(local.type(local.outputs[0].value)), "s32[2,4]");
  EXPECT_TRUE(local.is_local);
}

}  // namespace
}  // namespace tessera::testing
