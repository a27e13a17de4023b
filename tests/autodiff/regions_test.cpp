// Gradients through calls, branches, counted loops and manual computations, against finite
// differences, under every rematerialisation policy.
#include <gtest/gtest.h>

#include "core/autodiff/autodiff.h"
#include "core/base/error.h"
#include "core/ir/interpreter.h"
#include "core/ir/regions.h"
#include "core/ir/text.h"
#include "core/ir/verifier.h"
#include "core/ops/sharding.h"
#include "core/passes/dead_code.h"
#include "core/passes/inline_calls.h"
#include "tests/autodiff/gradient_programs.h"
#include "tests/ir/random_regions.h"

namespace tessera {
namespace {

using testing::gradient_graph;
using testing::RandomRegions;
using testing::shifting_loop;

GraphRef share(Graph graph) { return std::make_shared<const Graph>(std::move(graph)); }
MeshPtr mesh_of(const char* text) { return std::make_shared<const Mesh>(parse_mesh(text)); }

double loss_of(const Graph& graph, const std::vector<HostTensor>& inputs) {
  return interpret(graph, inputs)[static_cast<size_t>(graph.find_output("loss"))].get_real(0);
}

// Along a random direction of all inputs at once: one number per program.
void check_direction(const Graph& forward, const std::vector<HostTensor>& inputs,
                     const std::vector<HostTensor>& gradients, uint64_t seed) {
  constexpr double kStep = 1e-5;
  const std::vector<HostTensor> direction = RandomRegions::inputs(forward, seed + 77);
  auto moved = [&](double by) {
    std::vector<HostTensor> at = inputs;
    for (size_t i = 0; i < at.size(); ++i)
      for (int64_t e = 0; e < at[i].elements(); ++e)
        at[i].set_real(e, at[i].get_real(e) + by * direction[i].get_real(e));
    return loss_of(forward, at);
  };
  double expected = (moved(kStep) - moved(-kStep)) / (2 * kStep), actual = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (int64_t e = 0; e < inputs[i].elements(); ++e)
      actual += gradients[i].get_real(e) * direction[i].get_real(e);
  EXPECT_NEAR(actual, expected, 1e-6 * std::max(1.0, std::abs(expected))) << "seed " << seed;
}

void check_gradients(const Graph& forward, uint64_t seed) {
  const auto inputs = RandomRegions::inputs(forward, seed);
  for (RematPolicy policy : {RematPolicy::none, RematPolicy::dots, RematPolicy::full}) {
    const Graph graph = gradient_graph(forward, policy);
    ASSERT_NO_THROW(verify(graph, GraphStage::built)) << print_graph(graph);
    check_direction(forward, inputs, interpret(graph, inputs), seed);
    const Graph lean = eliminate_dead_code(inline_calls(graph));
    ASSERT_NO_THROW(verify(lean, GraphStage::built)) << print_graph(lean);
    EXPECT_EQ(interpret(lean, inputs), interpret(graph, inputs));
  }
}

TEST(RegionGradients, OfRandomProgramsAgreeWithFiniteDifferences) {
  for (uint64_t seed = 1; seed <= 40 && !::testing::Test::HasFailure(); ++seed)
    check_gradients(RandomRegions(seed, {}).program(), seed);
}

// Four turns; or, uncounted, as long as the sum of x is large.
Graph loop_program(std::optional<int64_t> trip_count, bool is_counted = true) {
  const TensorType k{DType::s32, {}}, x{DType::f64, {4, 6}}, w{DType::f64, {6, 6}};
  Graph body, condition, graph;
  body.name = "layers";
  Builder bb(body), cb(condition), b(graph);
  std::vector<Value> v;
  for (const TensorType& type : {k, x, w}) {
    v.push_back(bb.input(InputKind::data, cat("x", v.size()), type));
    cb.input(InputKind::data, cat("x", v.size()), type);
  }
  bb.output(ops::add_scalar(bb, v[0], 1), "k");
  bb.output(ops::sine(bb, ops::tanh(bb, ops::matmul(bb, v[1], v[2]))), "x");
  bb.output(v[2], "w");
  const Value count = condition.inputs[0].value;
  const Value sum = ops::reduce_all(cb, condition.inputs[1].value);
  cb.output(is_counted ? ops::compare(cb, count, ops::constant_like(cb, count, 4), CompareDirection::lt)
                       : ops::compare(cb, sum, ops::constant_like(cb, sum, 100), CompareDirection::gt),
            "c");
  const Value vx = b.input(InputKind::data, "x", x), vw = b.input(InputKind::data, "w", w);
  b.set_scope("stack");
  const auto made = ops::while_loop(b, {ops::constant(b, 0, k), vx, vw}, share(condition), share(body), trip_count);
  b.set_scope("");
  b.output(ops::reduce_all(b, ops::multiply(b, made[1], made[1])), "loss");
  return graph;
}

// Bytes of the largest values that the graph holds at once, roughly: all stacks.
int64_t stack_bytes(const Graph& graph) {
  int64_t bytes = 0;
  for (const Instruction& instruction : inline_calls(graph).instructions)
    if (instruction.is(ops::kWhile))
      for (const ResultInfo& result : instruction.results)
        if (result.type.rank() == 3) bytes = std::max(bytes, int64_t{0}) + result.type.bytes();
  return bytes;
}

TEST(RegionGradients, ALoopSavesWhatThePolicySays) {
  const Graph forward = loop_program(4);
  check_gradients(forward, 3);
  auto saved = [&](RematPolicy policy) { return stack_bytes(eliminate_dead_code(gradient_graph(forward, policy))); };
  // A stack is 4 turns of [4, 6] in f64; it is a result of the forward loop, and (passed through)
  // dead as a result of the backward one, where it stays carried.
  const int64_t one = 4 * 4 * 6 * 8;
  EXPECT_EQ(saved(RematPolicy::full), 2 * one);  // the carried x
  EXPECT_EQ(saved(RematPolicy::none), 2 * 2 * one);  // x and tanh
}

TEST(RegionGradients, ALoopOfUnknownLengthIsRefusedByName) {
  try {
    gradient_graph(loop_program({}, false), RematPolicy::none);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("while in stack with body \"layers\": the number of turns"),
              std::string::npos)
        << error.what();
  }
}

TEST(RegionGradients, ACountedLoopNeedNotSayItsCount) { check_gradients(loop_program({}), 7); }

TEST(RegionGradients, ALoopOfNoTurnsPassesCotangentsOn) {
  Graph graph = loop_program(4);
  for (Instruction& instruction : graph.instructions)
    if (instruction.is(ops::kWhile)) {
      Graph condition = *instruction.attributes.get<GraphRef>(Attr::condition);
      Builder b(condition);
      condition.outputs[0].value = ops::constant(b, 0, {DType::pred, {}});
      instruction.attributes.set(Attr::condition, share(condition));
      instruction.attributes.set(Attr::trip_count, int64_t{0});
    }
  check_gradients(graph, 5);
}

TEST(RegionGradients, BarriersPassCotangentsThroughABarrier) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {3}});
  const Value y = b.input(InputKind::data, "y", {DType::f64, {2}});
  const auto held = ops::optimization_barrier(b, {ops::sine(b, x), y});
  b.output(ops::add(b, ops::reduce_all(b, ops::multiply(b, held[0], held[0])),
                    ops::reduce_all(b, ops::tanh(b, held[1]))),
           "loss");
  check_gradients(graph, 1);
}

// ---- Manual computations ------------------------------------------------------------------------

struct Manual {
  MeshPtr mesh = mesh_of("a=2,b=2");
  AxisList a{mesh->axis("a")};
  Graph callee, graph;
  Builder c{callee}, b{graph};

  Manual() {
    callee.mesh = graph.mesh = mesh;
    callee.name = "shard";
  }
  Sharding sharding(const char* text) const { return parse_sharding(mesh, text); }
  Value stated(const OpDef& op, Value x, Attributes attributes, Shape shape) {
    attributes.set(Attr::axes, a);
    attributes.set(Attr::shape, Ints(shape.begin(), shape.end()));
    return c.emit(op, {x}, attributes);
  }
  void finish(const std::vector<Value>& operands, Shardings in, Shardings out) {
    const auto made = ops::manual_computation(b, share(callee), operands, a, in, out);
    Value loss = ops::constant(b, 0, {DType::f64, {}});
    for (Value value : made) loss = ops::add(b, loss, ops::reduce_all(b, ops::sine(b, value)));
    b.output(loss, "loss");
    verify(graph, GraphStage::built);
  }
};

// x cut by rows, w on all: y = tanh(x w) stays cut, s is summed over the coordinates, p left unsummed.
TEST(ManualGradients, ReplicatedInputsSumTheirCotangents) {
  Manual m;
  const Value x = m.c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value w = m.c.input(InputKind::data, "w", {DType::f64, {6, 6}});
  const Value y = ops::tanh(m.c, ops::matmul(m.c, x, w));
  const Value own = ops::reduce(m.c, ops::multiply(m.c, y, y), {0});
  const Value s = m.stated(ops::kAllReduce, own, {{Attr::reduce_kind, ReduceKind::sum}}, {6});
  m.c.output(ops::multiply(m.c, y, ops::broadcast_last(m.c, s, {2, 6})), "y");
  m.c.output(ops::tanh(m.c, s), "s");
  m.c.output(own, "p");
  m.c.output(ops::sine(m.c, w), "v");  // invariant
  const Value gx = m.b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  const Value gw = m.b.input(InputKind::data, "w", {DType::f64, {6, 6}});
  m.finish({gx, gw}, {m.sharding("[{a}, {}]"), m.sharding("[{}, {b}]")},
           {m.sharding("[{a}, {}]"), m.sharding("[{}]"), m.sharding("[{}] partial{sum: a}"),
            m.sharding("[{}, {}]")});
  check_gradients(m.graph, 1);
}

TEST(ManualGradients, OfEveryCollective) {
  Manual m;
  const Value x = m.c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value w = m.c.input(InputKind::data, "w", {DType::f64, {4, 6}});
  const Attributes rows{{Attr::dimension, int64_t{0}}};
  Attributes scatter = rows;
  scatter.set(Attr::reduce_kind, ReduceKind::sum);
  const Value gathered = m.stated(ops::kAllGather, x, rows, {4, 6});
  const Value product = ops::multiply(m.c, ops::tanh(m.c, gathered), w);
  m.c.output(product, "gathered");
  m.c.output(m.stated(ops::kReduceScatter, ops::multiply(m.c, product, m.stated(ops::kAllGather, ops::sine(m.c, x), rows, {4, 6})), scatter, {2, 6}), "scattered");
  m.c.output(m.stated(ops::kAllSlice, w, rows, {2, 6}), "sliced");
  m.c.output(m.stated(ops::kAllToAll, ops::sine(m.c, x), {{Attr::split_dimension, int64_t{1}}, {Attr::concat_dimension, int64_t{0}}}, {4, 3}), "exchanged");
  m.c.output(ops::multiply(m.c, x, ops::shift(m.c, x, m.a, 1)), "shifted");
  m.c.output(ops::multiply(m.c, x, ops::shift(m.c, ops::sine(m.c, x), m.a, -1, true)), "rotated");
  m.c.output(ops::multiply(m.c, x, m.stated(ops::kCollectivePermute, ops::sine(m.c, x), {{Attr::sources, Ints{1, -1}}}, {2, 6})), "sent");
  const Value gx = m.b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  const Value gw = m.b.input(InputKind::data, "w", {DType::f64, {4, 6}});
  const Sharding cut = m.sharding("[{a}, {}]");
  m.finish({gx, gw}, {cut, m.sharding("[{}, {}]")},
           {m.sharding("[{}, {}]"), cut, cut, m.sharding("[{}, {a}]"), cut, cut, cut});
  check_gradients(m.graph, 2);
}

// A result that all coordinates compute alike, from values that vary as far as can be seen.
TEST(ManualGradients, AgreedResultsCountOnce) {
  Manual m;
  const Value x = m.c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value both = m.stated(ops::kAllToAll, m.stated(ops::kAllGather, x, {{Attr::dimension, int64_t{0}}}, {4, 6}),
                              {{Attr::split_dimension, int64_t{1}}, {Attr::concat_dimension, int64_t{0}}}, {8, 3});
  // Every column block came from both coordinates alike: gather the columns again.
  const Value whole = m.stated(ops::kAllToAll, both, {{Attr::split_dimension, int64_t{0}}, {Attr::concat_dimension, int64_t{1}}}, {4, 6});
  m.c.output(ops::tanh(m.c, whole), "y");
  const Value gx = m.b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  m.finish({gx}, {m.sharding("[{a}, {}]")}, {m.sharding("[{}, {}]")});
  check_gradients(m.graph, 3);
}

// A loop with a collective in a manual computation; its residuals are stacks that leave it.
TEST(ManualGradients, OfALoopInside) {
  Manual m;
  const TensorType w{DType::f64, {6, 6}};
  const Value cx = m.c.input(InputKind::data, "x", {DType::f64, {2, 6}});
  const Value cw = m.c.input(InputKind::data, "w", w);
  m.c.output(shifting_loop(m.c, cx, cw, m.a), "y");
  const Value gx = m.b.input(InputKind::data, "x", {DType::f64, {4, 6}});
  const Value gw = m.b.input(InputKind::data, "w", w);
  m.finish({gx, gw}, {m.sharding("[{a}, {}]"), m.sharding("[{}, {}]")}, {m.sharding("[{a}, {}]")});
  check_gradients(m.graph, 4);
}

}  // namespace
}  // namespace tessera
