// Passes in and on control flow: none changes a result, and each does what it is for.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/regions.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/op_list.h"
#include "core/ops/sharding.h"
#include "core/passes/algebraic.h"
#include "core/passes/check_collectives.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/inline_calls.h"
#include "core/passes/loop_invariants.h"
#include "core/passes/simplify_case.h"
#include "core/passes/trip_count.h"
#include "tests/ir/random_regions.h"

namespace tessera {
namespace {

using testing::RandomRegions;
using Pass = std::function<Graph(const Graph&)>;

GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }

int count_in_all(const Graph& graph, const OpDef& op) {
  int found = 0;
  for_each_region(graph, [&](const Graph& each) {
    for (const Instruction& instruction : each.instructions) found += instruction.is(op);
  });
  return found;
}

const std::vector<std::pair<std::string, Pass>>& passes() {
  static const std::vector<std::pair<std::string, Pass>> kPasses = {
      {"inline_calls", inline_calls},
      {"find_trip_counts", find_trip_counts},
      {"hoist", [](const Graph& g) { return hoist_loop_invariants(g); }},
      {"fold", [](const Graph& g) { return fold_constants(g); }},
      {"simplify_case", simplify_case},
      {"merge", merge_common_subexpressions},
      {"algebra", simplify_algebra},
      {"dead_code", eliminate_dead_code},
      {"fusion", fuse_elementwise},
  };
  return kPasses;
}

TEST(RegionPasses, NoneChangesAResultOfARandomProgram) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    testing::RegionOptions options;
    options.trip_counts = seed % 2 == 0;
    Graph graph = RandomRegions(seed, options).program();
    const auto inputs = RandomRegions::inputs(graph, seed);
    const auto expected = interpret(graph, inputs);
    for (const auto& [name, pass] : passes()) {
      const Graph changed = pass(graph);
      ASSERT_NO_THROW(verify(changed, GraphStage::built)) << name << "\n" << print_graph(graph);
      const auto actual = interpret(changed, inputs);
      for (size_t o = 0; o < expected.size(); ++o)
        ASSERT_LT(max_relative_error(actual[o], expected[o], 1.0), 1e-12)
            << name << " seed " << seed << "\n" << print_graph(graph) << print_graph(changed);
      graph = changed;  // the next one works on what this one leaves
    }
    EXPECT_EQ(count_in_all(graph, ops::kCall), 0);
    for_each_region(graph, [](const Graph& each) {
      for (const Instruction& instruction : each.instructions)
        EXPECT_TRUE(!instruction.is(ops::kWhile) || instruction.attributes.has(Attr::trip_count));
    });
  }
}

// A loop over (k, x, w, unused): x = tanh(x sin(w)).
struct LoopFixture {
  Graph graph;
  std::vector<Value> results;

  explicit LoopFixture(bool use_last = false) {
    const TensorType k{DType::s32, {}}, x{DType::f64, {4, 6}}, w{DType::f64, {6, 6}};
    Graph body, condition;
    Builder bb(body), cb(condition), b(graph);
    std::vector<Value> inner;
    for (const TensorType& type : {k, x, w, x}) {
      inner.push_back(bb.input(InputKind::data, cat("x", inner.size()), type));
      cb.input(InputKind::data, cat("x", inner.size()), type);
    }
    const Value next = ops::tanh(bb, ops::matmul(bb, inner[1], ops::sine(bb, inner[2])));
    const Value last = ops::add(bb, inner[3], inner[1]);
    int index = 0;
    for (Value value : {ops::add_scalar(bb, inner[0], 3), next, inner[2], last})
      bb.output(value, cat("y", index++));
    const Value count = condition.inputs[0].value;
    cb.output(ops::compare(cb, ops::constant_like(cb, count, 11), count, CompareDirection::gt), "c");
    const Value start = ops::constant(b, 2, k);
    const Value vx = b.input(InputKind::data, "x", x), vw = b.input(InputKind::data, "w", w);
    results = ops::while_loop(b, {start, vx, vw, vx}, share(condition), share(body));
    b.output(results[1], "y");
    if (use_last) b.output(results[3], "last");
  }
  const Instruction& loop(const Graph& in) const {
    for (const Instruction& instruction : in.instructions)
      if (instruction.is(ops::kWhile)) return instruction;
    throw_user_error("no loop");
  }
};

TEST(DeadCode, LoopsCarryOnlyWhatIsNeeded) {
  const LoopFixture f;
  const Graph smaller = eliminate_dead_code(f.graph);
  verify(smaller, GraphStage::built);
  EXPECT_EQ(f.loop(smaller).operands.size(), 3u);  // k, x, w; the sum of x is nobody's
  EXPECT_EQ(f.loop(smaller).attributes.get<GraphRef>(Attr::body)->outputs.size(), 3u);
  const LoopFixture all(true);
  EXPECT_EQ(all.loop(eliminate_dead_code(all.graph)).operands.size(), 4u);
}

TEST(TripCount, IsReadOffTheCounter) {
  const LoopFixture f;
  EXPECT_EQ(f.loop(find_trip_counts(f.graph)).attributes.integer(Attr::trip_count), 3);  // 2, 5, 8
}

TEST(LoopInvariants, AreComputedOnceBeforeTheLoop) {
  const LoopFixture f;
  const Graph hoisted = hoist_loop_invariants(f.graph);
  verify(hoisted, GraphStage::built);
  int before = 0;
  for (const Instruction& instruction : hoisted.instructions) before += instruction.is(ops::kSine);
  EXPECT_EQ(before, 1);
  EXPECT_EQ(count_in_all(hoisted, ops::kSine), 1);
  const auto inputs = RandomRegions::inputs(f.graph, 1);
  EXPECT_EQ(interpret(hoisted, inputs), interpret(f.graph, inputs));
  // Not above the bound.
  const Graph kept = hoist_loop_invariants(f.graph, {.most_bytes = 100});
  EXPECT_EQ(f.loop(kept).operands.size(), 4u);
}

TEST(SimplifyCase, TakesTheOnlyBranch) {
  for (int index : {0, 1, 7}) {
    Graphs branches;
    for (const OpDef* op : {&ops::kSine, &ops::kTanh}) {
      Graph branch;
      Builder b(branch);
      b.output(b.emit(*op, {b.input(InputKind::data, "x", {DType::f64, {2}})}), "y");
      branches.push_back(share(std::move(branch)));
    }
    Graph graph;
    Builder b(graph);
    const Value x = b.input(InputKind::data, "x", {DType::f64, {2}});
    b.output(ops::case_of(b, ops::constant(b, index, {DType::s32, {}}), {x}, branches)[0], "y");
    const Graph simple = simplify_case(graph);
    EXPECT_EQ(count_in_all(simple, ops::kCase), 0);
    EXPECT_EQ(count_in_all(simple, ops::kSine), index == 0);
    EXPECT_EQ(count_in_all(simple, ops::kTanh), index != 0);
  }
}

TEST(Barriers, AreNeitherMergedNorFolded) {
  Graph graph;
  Builder b(graph);
  const Value one = ops::constant(b, 1, {DType::f64, {2}});
  b.output(ops::optimization_barrier(b, {one})[0], "x");
  b.output(ops::optimization_barrier(b, {one})[0], "y");
  EXPECT_EQ(count_in_all(merge_common_subexpressions(fold_constants(graph)), ops::kOptimizationBarrier), 2);
}

// ---- Collectives before partitioning ------------------------------------------------------------

std::string refusal(const Graph& graph) {
  try {
    check_collectives(graph);
  } catch (const UserError& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST(CheckCollectives, OnlyOverManualAxesInManualComputations) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh("a=2,b=2"));
  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  b.set_scope("block.1");
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4}});
  b.output(ops::all_reduce(b, x, {mesh->axis("a")}), "y");
  EXPECT_EQ(refusal(graph),
            "all_reduce %1 in block.1 stands outside a manual_computation; before partitioning a program "
            "is as if for one device: leave it out (the partitioner puts in what it needs), or put it "
            "into a manual_computation over its axes");
  auto inside = [&](const char* axis, bool stated) {
    Graph callee, outer;
    callee.mesh = outer.mesh = mesh;
    Builder c(callee), o(outer);
    const Value shard = c.input(InputKind::data, "x", {DType::f64, {2}});
    Attributes attributes{{Attr::axes, AxisList{mesh->axis(axis)}}, {Attr::dimension, int64_t{0}}};
    if (stated) attributes.set(Attr::shape, Ints{4});
    c.output(c.emit(ops::kAllGather, {shard}, attributes), "y");
    const Value whole = o.input(InputKind::data, "x", {DType::f64, {4}});
    ops::manual_computation(o, share(callee), {whole}, {mesh->axis("a")},
                            {parse_sharding(mesh, "[{a}]")}, {parse_sharding(mesh, "[{}]")});
    return refusal(outer);
  };
  EXPECT_EQ(inside("a", true), "(accepted)");
  EXPECT_EQ(inside("b", true), "all_gather %1 of %1.callee: axis \"b\" is not a manual axis of the "
                               "computation around it");
  EXPECT_NE(inside("a", false).find("needs the attribute `shape`"), std::string::npos);
}

}  // namespace
}  // namespace tessera
