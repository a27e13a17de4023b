// Regions: text, verifier, reference evaluation and the messages of control flow.
#include "core/ir/regions.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/op_list.h"
#include "core/ops/sharding.h"
#include "tests/ir/random_regions.h"

namespace tessera {
namespace {

using testing::RandomRegions;

MeshPtr mesh_of(const char* text) { return std::make_shared<const Mesh>(parse_mesh(text)); }
GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }

HostTensor counting(const Shape& shape) {
  HostTensor tensor({DType::f64, shape});
  for (int64_t i = 0; i < tensor.elements(); ++i) tensor.set_real(i, static_cast<double>(i) + 0.5);
  return tensor;
}

template <typename Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Regions, RandomProgramsPrintParseAndVerify) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    testing::RegionOptions options;
    if (seed % 2) options.mesh = mesh_of("data=2,model=2");
    const Graph graph = RandomRegions(seed, options).program();
    verify(graph, GraphStage::built);
    const std::string text = print_graph(graph);
    const Graph parsed = parse_graph(text, all_ops());
    ASSERT_EQ(print_graph(parsed), text) << seed;
    ASSERT_TRUE(same_computation(parsed, graph)) << text;
    verify(parsed, GraphStage::built);
    const auto inputs = RandomRegions::inputs(graph, seed);
    EXPECT_EQ(interpret(graph, inputs), interpret(parsed, inputs));
  }
}

TEST(Regions, StoredAndLogicalShapesComeBack) {
  Graph graph;
  graph.mesh = mesh_of("x=2");
  graph.is_local = true;
  Builder b(graph);
  const Value a = b.input(InputKind::data, "a", {DType::f32, {4, 3}});
  graph.info(a).sharding = parse_sharding(graph.mesh, "[{x}, {}]");
  graph.info(a).logical_shape = Shape{7, 3};
  const Value index = ops::axis_index(b, {graph.mesh->axis(0)});  // lies nowhere
  b.output(a, "a");
  b.output(index, "i");
  const std::string text = print_graph(graph);
  EXPECT_NE(text.find("f32[4,3] logical [7,3] [{x}, {}]"), std::string::npos) << text;
  const Graph parsed = parse_graph(text, all_ops());
  EXPECT_EQ(print_graph(parsed), text);
  EXPECT_EQ(parsed.info(a).logical_shape, graph.info(a).logical_shape);
  EXPECT_FALSE(parsed.info(index).sharding.has_value());
}

const char* kLoop = R"(graph "g" {
  %0 = parameter {index=0, name="k", shape=[], dtype=s32} : s32[] named "k" input 0 data
  %1 = parameter {index=1, name="x", shape=[2], dtype=f64} : f64[2] named "x" input 1 data
  %2 = while(%0, %1) {body=graph "body" {
    %0 = parameter {index=0, name="k", shape=[], dtype=s32} : s32[] named "k" input 0 data
    %1 = parameter {index=1, name="x", shape=[2], dtype=f64} : f64[2] named "x" input 1 data
    %2 = constant {shape=[], dtype=s32, scalar=1} : s32[]
    %3 = add(%0, %2) : s32[]
    %4 = add(%1, %1) : f64[2]
    return %3 as "k", %4 as "x"
  }, condition=graph "until" {
    %0 = parameter {index=0, name="k", shape=[], dtype=s32} : s32[] named "k" input 0 data
    %1 = parameter {index=1, name="x", shape=[2], dtype=f64} : f64[2] named "x" input 1 data
    %2 = constant {shape=[], dtype=s32, scalar=3} : s32[]
    %3 = compare(%0, %2) {direction=lt} : pred[]
    return %3 as "goes_on"
  }, trip_count=3} : s32[], f64[2]
  return %2:1 as "y"
})";

HostTensor s32(int64_t value) {
  HostTensor tensor({DType::s32, {}});
  tensor.set_int(0, value);
  return tensor;
}

TEST(While, TurnsAsOftenAsItSays) {
  const Graph graph = parse_graph(kLoop, all_ops());
  verify(graph, GraphStage::built);
  EXPECT_EQ(interpret(graph, std::vector{s32(0), counting({2})})[0].get_real(1), 12.0);
  EXPECT_EQ(message_of([&] { interpret(graph, std::vector{s32(-9), counting({2})}); }),
            "while: the loop with body \"body\" goes on after its trip_count of 3 turns");
  EXPECT_EQ(message_of([&] { interpret(graph, std::vector{s32(1), counting({2})}); }),
            "while: the loop with body \"body\" ends after 2 turns, its trip_count is 3");
}

TEST(While, WrongBoundariesNameTheCarriedValueAndBothTypes) {
  const Graph good = parse_graph(kLoop, all_ops());
  const Instruction& loop = good.instructions[2];
  const GraphRef condition = loop.attributes.get<GraphRef>(Attr::condition);
  Graph body = *loop.attributes.get<GraphRef>(Attr::body);
  const TensorType k{DType::s32, {}}, x{DType::f64, {2}}, wide{DType::f64, {3}};
  auto infer = [&](const Graph& b, std::vector<TensorType> types) {
    const Attributes attributes{{Attr::condition, condition}, {Attr::body, share(b)}};
    infer_types(ops::kWhile, {types, attributes});
  };
  EXPECT_EQ(message_of([&] { infer(body, {k, wide}); }),
            "while: carried value 1 (\"x\") is f64[3], but the body \"body\" takes f64[2]");
  EXPECT_EQ(message_of([&] { infer(body, {k}); }),
            "while: 1 carried values (s32[]), but the body \"body\" takes 2 (s32[], f64[2])");
  std::swap(body.outputs[0], body.outputs[1]);
  EXPECT_EQ(message_of([&] { infer(body, {k, x}); }),
            "while: carried value 0 (\"k\") is s32[], but the body \"body\" gives f64[2]");
}

TEST(Case, IndicesOutOfRangeTakeTheLastBranch) {
  const TensorType x{DType::f64, {2}};
  Graphs branches;
  for (double factor : {1.0, 10.0, 100.0}) {
    Graph branch;
    Builder b(branch);
    b.output(ops::scale(b, b.input(InputKind::data, "x", x), factor), "y");
    branches.push_back(share(std::move(branch)));
  }
  Graph graph;
  Builder b(graph);
  const Value index = b.input(InputKind::data, "i", {DType::s32, {}});
  const Value value = b.input(InputKind::data, "x", x);
  b.output(ops::case_of(b, index, {value}, branches)[0], "y");
  for (const auto& [taken, result] :
       std::vector<std::pair<int, double>>{{0, 0.5}, {1, 5}, {2, 50}, {3, 50}, {-1, 50}})
    EXPECT_EQ(interpret(graph, std::vector{s32(taken), counting({2})})[0].get_real(0), result);
  const Attributes attributes{{Attr::branches, branches}};
  EXPECT_EQ(message_of([&] {
              infer_types(ops::kCase, {std::vector<TensorType>{{DType::s32, {}}, {DType::f32, {2}}},
                                       attributes});
            }),
            "case: operand 1 (\"x\") is f32[2], but the branch 0 \"graph\" takes f64[2]");
}

TEST(Verifier, GoesIntoRegions) {
  Graph graph = parse_graph(kLoop, all_ops());
  Graph body = *graph.instructions[2].attributes.get<GraphRef>(Attr::body);
  body.instructions[4].operands[0] = {7, 0};
  graph.instructions[2].attributes.set(Attr::body, share(body));
  const std::string message = message_of([&] { verify(graph, GraphStage::built); });
  EXPECT_NE(message.find("body: "), std::string::npos) << message;
  EXPECT_NE(message.find("%4 add"), std::string::npos) << message;

  graph = parse_graph(kLoop, all_ops());
  graph.mesh = mesh_of("x=2");
  EXPECT_NE(message_of([&] { verify(graph, GraphStage::built); }).find("another mesh"),
            std::string::npos);
}

// ---- Manual computations ------------------------------------------------------------------------

// Rows are cut over a; each coordinate adds its rows, an all_reduce the coordinates' sums.
TEST(Manual, CollectivesRunBetweenTheCoordinates) {
  const MeshPtr mesh = mesh_of("a=2,b=3");
  const AxisList a{mesh->axis("a")};
  Graph callee;
  callee.name = "sum";
  callee.mesh = mesh;
  Builder c(callee);
  const Value shard = c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value own = ops::reduce(c, shard, {0});
  const Value sum = c.emit(ops::kAllReduce, {own},
                           {{Attr::axes, a}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{6}}});
  const Value gathered =
      c.emit(ops::kAllGather, {shard}, {{Attr::dimension, int64_t{0}}, {Attr::axes, a}, {Attr::shape, Ints{4, 6}}});
  c.output(sum, "sum");
  c.output(own, "own");
  c.output(ops::shift(c, shard, a, 1), "shifted");
  c.output(gathered, "gathered");
  Graph graph;
  graph.mesh = mesh;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  const auto sharding = [&](const char* text) { return parse_sharding(mesh, text); };
  const auto made = ops::manual_computation(
      b, share(callee), {x}, a, {sharding("[{a}, {b}]")},
      {sharding("[{b}]"), sharding("[{}] partial{sum: a}"), sharding("[{a}, {}]"), sharding("[{}, {}]")});
  for (Value value : made) b.output(value, "y");
  verify(graph, GraphStage::built);
  const auto results = interpret(graph, std::vector{counting({4, 6})});
  EXPECT_EQ(results[0].get_real(0), 0.5 + 6.5 + 12.5 + 18.5);
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2].get_real(0), 0.0);
  EXPECT_EQ(results[2].get_real(12), 0.5);
  EXPECT_EQ(results[3], counting({4, 6}));

  // A result that coordinates do not agree on has no value.
  graph.at(made[0]).attributes.set(
      Attr::out_shardings, Shardings{sharding("[{}]"), sharding("[{}]"), sharding("[{a}, {}]"), sharding("[{}, {}]")});
  EXPECT_NE(message_of([&] { interpret(graph, std::vector{counting({4, 6})}); })
                .find("should hold the same shard"),
            std::string::npos);
}

// A loop inside turns as often as its coordinate says, unless a collective joins the coordinates.
TEST(Manual, LoopsMayDivergeButNotAroundACollective) {
  const MeshPtr mesh = mesh_of("a=2");
  const AxisList a{mesh->axis("a")};
  const TensorType scalar{DType::s64, {}}, x{DType::f64, {1}};
  for (bool exchanges : {false, true}) {
    Graph body, condition, callee;
    for (Graph* graph : {&body, &condition, &callee}) graph->mesh = mesh;
    Builder bb(body), cb(condition), mb(callee);
    const Value k = bb.input(InputKind::data, "k", scalar), v = bb.input(InputKind::data, "v", x);
    bb.output(ops::add_scalar(bb, k, 1), "k");
    bb.output(exchanges ? ops::shift(bb, v, a, 1, true) : ops::scale(bb, v, 2), "v");
    const Value ck = cb.input(InputKind::data, "k", scalar);
    cb.input(InputKind::data, "v", x);
    cb.output(ops::compare(cb, ck, ops::constant_like(cb, ck, 2), CompareDirection::lt), "c");
    const Value own = mb.input(InputKind::data, "x", x);
    mb.output(ops::while_loop(mb, {ops::axis_index(mb, a), own}, share(condition), share(body))[1], "y");
    Graph graph;
    graph.mesh = mesh;
    Builder b(graph);
    const Sharding cut = parse_sharding(mesh, "[{a}]");
    b.output(ops::manual_computation(b, share(callee), {b.input(InputKind::data, "x", {DType::f64, {2}})},
                                     a, {cut}, {cut})[0],
             "y");
    if (exchanges) {
      EXPECT_NE(message_of([&] { interpret(graph, std::vector{counting({2})}); }).find("differs between"),
                std::string::npos);
    } else {
      const HostTensor y = interpret(graph, std::vector{counting({2})})[0];
      EXPECT_EQ(y.get_real(0), 2.0);  // two turns
      EXPECT_EQ(y.get_real(1), 3.0);  // one
    }
  }
}

TEST(Manual, ComputationsNest) {
  const MeshPtr mesh = mesh_of("a=2,b=2");
  const AxisList a{mesh->axis("a")}, both{mesh->axis("b")};
  Graph inner, outer, graph;
  for (Graph* each : {&inner, &outer, &graph}) each->mesh = mesh;
  Builder ib(inner), ob(outer), b(graph);
  const Value corner = ib.input(InputKind::data, "x", {DType::f64, {2, 3}});
  ib.output(ib.emit(ops::kAllReduce, {ops::reduce(ib, corner, {0, 1})},
                    {{Attr::axes, both}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, Ints{}}}),
            "sum");
  const Value rows = ob.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value sum = ops::manual_computation(ob, share(inner), {rows}, both,
                                            {parse_sharding(mesh, "[{}, {b}]")}, {parse_sharding(mesh, "[]")})[0];
  ob.output(ops::reshape(ob, sum, {1}), "sum");
  const Value x = b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  b.output(ops::manual_computation(b, share(outer), {x}, a, {parse_sharding(mesh, "[{a}, {}]")},
                                   {parse_sharding(mesh, "[{a}]")})[0],
           "sums");
  verify(graph, GraphStage::built);
  const HostTensor sums = interpret(graph, std::vector{counting({4, 6})})[0];
  EXPECT_EQ(sums.get_real(0), 72.0);   // 0.5 + ... + 11.5
  EXPECT_EQ(sums.get_real(1), 216.0);  // 12.5 + ... + 23.5
}

TEST(Manual, MistakesAreNamed) {
  const MeshPtr mesh = mesh_of("a=2,b=2");
  const TensorType x{DType::f64, {3, 4}};
  auto type = [&](const char* text) {
    return message_of([&] { ops::manual_type(x, parse_sharding(mesh, text), {mesh->axis("a")}); });
  };
  EXPECT_EQ(type("[{a}, {}]"),
            "manual_computation: dim 0 of f64[3,4] does not divide by 2, the size of its manual axes in "
            "[{a}, {}]");
  EXPECT_NE(type("[{}, {b, a}]").find("manual axes come first"), std::string::npos);
  EXPECT_EQ(type("[{}, {a, b}]"), "(no error)");
}

}  // namespace
}  // namespace tessera
