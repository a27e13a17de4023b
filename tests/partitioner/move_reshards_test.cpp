#include "partitioner/move_reshards.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/text.h"
#include "core/ops/elementwise.h"
#include "core/ops/sharding.h"
#include "core/ops/structure.h"
#include "core/runtime/sharded_interpreter.h"
#include "partitioner/check_shardings.h"
#include "partitioner/insert_reshards.h"
#include "partitioner/localize.h"
#include "partitioner/projection.h"
#include "partitioner/reshards_to_collectives.h"
#include "tests/partitioner/partition_fixture.h"

namespace tessera::testing {
namespace {

// A graph whose instructions lie as the test says, with a reshard where it says so.
struct Written {
  explicit Written(const char* mesh_text = "x=4")
      : mesh(mesh_of(mesh_text)), planner(mesh, machine_model("cpu-shm")), b(graph) {
    graph.mesh = mesh;
  }
  Value input(TensorType type, const char* sharding) {
    return lies(b.input(InputKind::parameter, cat("a", graph.inputs.size()), std::move(type)),
                sharding);
  }
  // Makes `value` lie so, with the factor axes that give it.
  Value lies(Value value, const char* sharding) {
    graph.info(value).sharding = parse_sharding(mesh, sharding);
    Instruction& op = graph.at(value);
    if (op.operands.empty() || op.is(ops::kReshard)) return value;
    const FactorRule rule = with_call(graph, op, [&](const OpCall& call) {
      return factor_rule(*op.op, call, Graph::result_types(op));
    });
    op.factor_axes = project(rule, rule.results[0], *op.results[0].sharding);
    return value;
  }
  Value reshard(Value value, const char* to) {
    return lies(ops::reshard(b, value, parse_sharding(mesh, to)), to);
  }
  // "convert; reshard 1048576 B": what is moved, after the pass; both graphs are interpreted.
  std::string moved(Value result) {
    b.output(result, "y");
    graph.outputs[0].sharding = graph.sharding(result);
    check_shardings(graph);
    const Graph after = move_reshards(graph, planner);
    check_shardings(after);
    const std::vector<HostTensor> inputs = random_inputs(graph, 3);
    const HostTensor expected = interpret_sharded(graph, inputs)[0];
    for (const Graph& one : {after, localize(reshards_to_collectives(after, planner))}) {
      const double error = error_between(expected, interpret_sharded(one, inputs)[0]);
      EXPECT_LE(error, 1e-6) << print_graph(one);
    }
    std::vector<std::string> steps;
    for (const Instruction& instruction : after.instructions) {
      if (instruction.operands.empty()) continue;
      if (instruction.is(ops::kReshard))
        steps.push_back(
            cat("reshard ",
                planner
                    .plan(after.sharding(instruction.operands[0]),
                          *instruction.results[0].sharding, instruction.results[0].type)
                    .wire_bytes,
                " B"));
      else
        steps.emplace_back(instruction.op->name);
    }
    return join(steps, "; ");
  }

  MeshPtr mesh;
  ReshardPlanner planner;
  Graph graph;
  Builder b;
};

const TensorType kMatrix{DType::f32, {64, 256}}, kNarrow{DType::bf16, {64, 256}};
// All but its own quarter reaches a device: of 64 KiB in f32.
constexpr const char* kWhole = "49152", *kHalf = "24576";

TEST(MoveReshards, BelowNarrowingConverts) {
  Written w;
  const Value whole = w.reshard(w.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  EXPECT_EQ(w.moved(w.lies(ops::convert(w.b, whole, DType::bf16), "[{}, {}]")),
            cat("convert; reshard ", kHalf, " B"));
}

TEST(MoveReshards, NotBelowWideningOnes) {
  Written w;
  const Value whole = w.reshard(w.input(kNarrow, "[{x}, {}]"), "[{}, {}]");
  EXPECT_EQ(w.moved(w.lies(ops::convert(w.b, whole, DType::f32), "[{}, {}]")),
            cat("reshard ", kHalf, " B; convert"));
}

TEST(MoveReshards, BelowSlices) {
  Written w;
  const Value whole = w.reshard(w.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  const Value part = w.lies(ops::slice_dim(w.b, whole, 1, 0, 128), "[{}, {}]");
  EXPECT_EQ(w.moved(part), cat("slice; reshard ", kHalf, " B"));
}

// The sliced dim itself is gathered first: a shard does not hold the slice.
TEST(MoveReshards, NotBelowSlicesOfTheGatheredDim) {
  Written w;
  const Value whole = w.reshard(w.input(kMatrix, "[{}, {x}]"), "[{}, {}]");
  const Value part = w.lies(ops::slice_dim(w.b, whole, 1, 0, 128), "[{}, {}]");
  EXPECT_EQ(w.moved(part), cat("reshard ", kWhole, " B; slice"));
}

TEST(MoveReshards, BelowReductions) {
  Written kept;  // of another dim: 64 sums are gathered
  Value whole = kept.reshard(kept.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  EXPECT_EQ(kept.moved(kept.lies(ops::reduce(kept.b, whole, {1}), "[{}]")),
            "reduce; reshard 192 B");
  Written reduced;  // of the gathered dim: 256 partial sums are reduced, 2 x 3/4 of 1 KiB
  whole = reduced.reshard(reduced.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  EXPECT_EQ(reduced.moved(reduced.lies(ops::reduce(reduced.b, whole, {0}), "[{}]")),
            "reduce; reshard 1536 B");
}

TEST(MoveReshards, AboveWideningConverts) {
  Written w;
  const Value wide =
      w.lies(ops::convert(w.b, w.input(kNarrow, "[{x}, {}]"), DType::f32), "[{x}, {}]");
  EXPECT_EQ(w.moved(w.reshard(wide, "[{}, {}]")), cat("reshard ", kHalf, " B; convert"));
}

TEST(MoveReshards, AboveBroadcasts) {
  Written w;
  const Value wide = w.lies(
      ops::broadcast_in_dim(w.b, w.input({DType::f32, {64}}, "[{x}]"), {64, 256}, {0}), "[{x}, {}]");
  EXPECT_EQ(w.moved(w.reshard(wide, "[{}, {}]")), "reshard 192 B; broadcast_in_dim");
}

// Through several ops, in both directions.
TEST(MoveReshards, AsFarAsItPays) {
  Written below;
  Value v = below.reshard(below.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  v = below.lies(ops::convert(below.b, v, DType::bf16), "[{}, {}]");
  v = below.lies(ops::slice_dim(below.b, v, 1, 0, 128), "[{}, {}]");
  EXPECT_EQ(below.moved(v), "convert; slice; reshard 12288 B");

  Written above;
  v = above.input({DType::bf16, {64}}, "[{x}]");
  v = above.lies(ops::convert(above.b, v, DType::f32), "[{x}]");
  v = above.lies(ops::broadcast_in_dim(above.b, v, {64, 256}, {0}), "[{x}, {}]");
  EXPECT_EQ(above.moved(above.reshard(v, "[{}, {}]")),
            "reshard 96 B; convert; broadcast_in_dim");
}

TEST(MoveReshards, NotWhereOthersUseTheValue) {
  Written w;
  const Value whole = w.reshard(w.input(kMatrix, "[{x}, {}]"), "[{}, {}]");
  const Value narrow = w.lies(ops::convert(w.b, whole, DType::bf16), "[{}, {}]");
  const Value wide = w.lies(ops::convert(w.b, narrow, DType::f32), "[{}, {}]");
  EXPECT_EQ(w.moved(w.lies(ops::add(w.b, whole, wide), "[{}, {}]")),
            cat("reshard ", kWhole, " B; convert; convert; add"));
}

}  // namespace
}  // namespace tessera::testing
