// Loops, branches and calls compile to markers in one list of steps: carried values stay where they
// are, what no turn changes costs nothing, and all of it computes what the interpreter computes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/compile/compile.h"
#include "core/compile/plan_checker.h"
#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/ops/sharding.h"
#include "core/runtime/thread_run.h"
#include "tests/compile/control_programs.h"

namespace tessera {
namespace {

using testing::counted_loop;
using testing::graph_of;
using testing::random_control_graph;
using testing::random_inputs;

const TensorType kMatrix{DType::f64, {4, 4}};

void expect_equal(const Graph& graph, int steps = 1) {
  const std::vector<HostTensor> inputs = random_inputs(graph, 7);
  std::vector<HostTensor> expected = interpret(graph, inputs), next = inputs;
  for (int step = 1; step < steps; ++step) {
    for (size_t o = 0; o < graph.outputs.size(); ++o)
      if (graph.outputs[o].alias_input >= 0)
        next[static_cast<size_t>(graph.outputs[o].alias_input)] = expected[o];
    expected = interpret(graph, next);
  }
  ThreadRunOptions options;
  options.steps = steps;
  const std::vector<HostTensor> actual = run_on_threads(graph, KernelTable(), inputs, options);
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_EQ(actual[o], expected[o]) << graph.outputs[o].name << "\n" << print_graph(graph);
}

int count_copies(const Executable& executable) {
  int copies = 0;
  for (const Step& step : executable.steps) copies += std::holds_alternative<CopyStep>(step);
  return copies;
}

// x -> tanh(x w), `turns` times; w does not change.
Graph power_iteration(int64_t turns, bool known) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::parameter, "x", kMatrix);
  const Value w = b.input(InputKind::parameter, "w", kMatrix);
  const std::vector<Value> results = counted_loop(
      b, turns, {x, w},
      [](Builder& body, const std::vector<Value>& carried) {
        return std::vector<Value>{ops::tanh(body, ops::matmul(body, carried[0], carried[1])),
                                  carried[1]};
      },
      known);
  b.output(results[0], "x", 0);
  b.output(results[1], "w");
  return graph;
}

TEST(Control, LoopsEqualTheInterpreter) {
  for (const int64_t turns : {0, 1, 2, 5})
    for (const bool known : {false, true}) {
      SCOPED_TRACE(cat(turns, " turns"));
      expect_equal(power_iteration(turns, known), 2);
    }
}

TEST(Control, CarriedValuesStayInPlaceAndConstantOnesCostNothing) {
  for (const bool known : {false, true}) {
    const Executable executable = compile(power_iteration(3, known), KernelTable());
    EXPECT_EQ(executable.copies, 0);
    EXPECT_EQ(count_copies(executable), 0);
    // x is updated where the parameter lies, w is read where it lies.
    for (const int output : {0, 1}) {
      const BufferPlan& plan =
          executable.buffers[static_cast<size_t>(executable.output_buffers[output])];
      EXPECT_EQ(plan.arena, Arena::persistent);
      EXPECT_EQ(plan.input, output);
    }
    const auto* loop = std::get_if<LoopBegin>(&executable.steps[0]);
    ASSERT_NE(loop, nullptr);
    EXPECT_EQ(loop->trip_count, known ? 3 : -1);
    // With a known trip count nothing but the body runs: product, tanh, counter.
    EXPECT_EQ(loop->end_step, known ? 4 : 6);
  }
}

TEST(Control, ValuesThatChangePlacesAreCopied) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix), y = b.input(InputKind::data, "y", kMatrix);
  const std::vector<Value> results = counted_loop(
      b, 3, {ops::tanh(b, x), ops::negate(b, y)},
      [](Builder& body, const std::vector<Value>& carried) {
        return std::vector<Value>{carried[1], ops::scale(body, carried[0], 0.5)};
      },
      true);
  b.output(results[0], "a");
  b.output(results[1], "b");
  // One value aside, and the other way back: nothing less can exchange them.
  EXPECT_EQ(compile(graph, KernelTable()).copies, 2);
  expect_equal(graph);
}

// A row per turn into a carried buffer: written where it lies, whatever its size.
TEST(Control, DynamicUpdateSliceOfACarriedBufferIsInPlace) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {1, 64}});
  const Value rows = b.input(InputKind::data, "rows", {DType::f64, {8, 64}});
  const std::vector<Value> results = counted_loop(
      b, 8, {x, rows},
      [](Builder& body, const std::vector<Value>& carried, Value turn) {
        const Value next = ops::tanh(body, carried[0]);
        const Value zero = ops::constant(body, 0.0, {DType::s32, {}});
        return std::vector<Value>{next,
                                  ops::dynamic_update_slice(body, carried[1], next, {turn, zero})};
      },
      true);
  b.output(results[1], "rows", 1);
  b.output(results[0], "last");
  const Executable executable = compile(graph, KernelTable());
  // x is read only by the loop, but a persistent input must not be overwritten: one copy.
  EXPECT_EQ(executable.copies, 1);
  EXPECT_EQ(count_copies(executable), 0);
  expect_equal(graph);
}

Graph conditional_update(bool third) {
  Graph graph;
  Builder b(graph);
  const Value index = b.input(InputKind::data, "index", {DType::s32, {}});
  const Value p = b.input(InputKind::parameter, "p", kMatrix);
  const Value g = b.input(InputKind::data, "g", kMatrix);
  auto arm = [&](auto body) {
    return graph_of({kMatrix, kMatrix}, [&](Builder& in, const std::vector<Value>& x) {
      return body(in, x);
    });
  };
  Graphs arms = {arm([](Builder&, const auto& x) { return std::vector<Value>{x[0], x[1]}; }),
                 arm([](Builder& in, const auto& x) {
                   return std::vector<Value>{ops::add(in, x[0], x[1]), ops::tanh(in, x[1])};
                 })};
  if (third)
    arms.push_back(arm([](Builder& in, const auto& x) {
      const Value both = ops::multiply(in, x[0], x[1]);
      return std::vector<Value>{both, both};
    }));
  const std::vector<Value> results = ops::case_of(b, index, {p, g}, arms);
  b.output(results[0], "p", 1);
  b.output(results[1], "second");
  return graph;
}

TEST(Control, BranchesEqualTheInterpreterForEveryIndex) {
  for (const bool third : {false, true})
    for (const double index : {-1.0, 0.0, 1.0, 2.0, 7.0}) {
      const Graph graph = conditional_update(third);
      std::vector<HostTensor> inputs = random_inputs(graph, 5);
      inputs[0].set_real(0, index);
      const auto expected = interpret(graph, inputs);
      const auto actual = run_on_threads(graph, KernelTable(), inputs);
      EXPECT_EQ(actual, expected) << index;
    }
}

TEST(Control, AParameterThatAnArmKeepsIsUpdatedInPlace) {
  const Executable executable = compile(conditional_update(false), KernelTable());
  const BufferPlan& p = executable.buffers[static_cast<size_t>(executable.output_buffers[0])];
  EXPECT_EQ(p.arena, Arena::persistent);
  EXPECT_EQ(p.input, 1);
  // Only the second result costs: g, which must live on as an input, and nothing of p.
  EXPECT_EQ(executable.copies, 1);
}

TEST(Control, CallsAndBarriersEqualTheInterpreter) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix), y = b.input(InputKind::data, "y", kMatrix);
  const GraphRef callee = graph_of({kMatrix, kMatrix}, [](Builder& in, const auto& v) {
    return std::vector<Value>{ops::matmul(in, v[0], v[1]), v[1]};
  });
  const std::vector<Value> called = ops::call(b, callee, {x, y});
  const std::vector<Value> barred =
      ops::optimization_barrier(b, {ops::tanh(b, called[0]), called[1]});
  b.output(ops::add(b, barred[0], barred[1]), "sum");
  b.output(barred[1], "y");
  EXPECT_EQ(compile(graph, KernelTable()).copies, 0);
  expect_equal(graph);
}

// What stands behind a barrier does not run before what stands in front of it.
TEST(Control, ABarrierOrdersItsTwoSides) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix), y = b.input(InputKind::data, "y", kMatrix);
  const std::vector<Value> barred = ops::optimization_barrier(b, {ops::tanh(b, x), y});
  b.output(ops::negate(b, barred[1]), "minus");
  b.output(barred[0], "tanh");
  const StepGraph steps = build_step_graph(graph, KernelTable());
  ASSERT_EQ(steps.nodes.size(), 2u);
  EXPECT_EQ(steps.nodes[1].before, std::vector<int>{0});
}

TEST(Control, AnErrorInALoopNamesRegionAndTurn) {
  KernelTable table;
  Kernel failing;
  failing.name = "failing";
  failing.run = [](const KernelArgs&) { throw_user_error("the disk is on fire"); };
  table.add(ops::kTanh, failing);
  const Graph graph = power_iteration(4, true);
  try {
    run_on_threads(graph, table, random_inputs(graph, 1));
    FAIL();
  } catch (const UserError& error) {
    const std::string message = error.what();
    for (const char* part : {"tanh", "in the body of", "while", "(turn 0)", "on fire"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(Control, TheReportCountsTurns) {
  CompileOptions options;
  const double once = compile(power_iteration(1, true), KernelTable(), options).schedule.step_seconds;
  const double often =
      compile(power_iteration(50, true), KernelTable(), options).schedule.step_seconds;
  EXPECT_NEAR(often, 50 * once, 1e-9);
}

TEST(Control, TheCheckerFindsAnOutputThatIsNotWhereTheNextTurnLooks) {
  Executable executable = compile(power_iteration(3, true), KernelTable());
  for (Step& step : executable.steps)
    if (auto* kernel = std::get_if<KernelStep>(&step);
        kernel && executable.instruction_of(kernel->region, kernel->instruction).is(ops::kTanh))
      kernel->results = kernel->operands;
  EXPECT_THROW(check_plan(executable), InternalError);
}

RC_GTEST_PROP(Control, RandomProgramsEqualTheInterpreter, ()) {
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto size = *rc::gen::inRange(1, 25);
  expect_equal(random_control_graph(seed, size), 2);
}

// Memory of programs with loops stays near what is live at one time.
TEST(Control, PlansLieNearTheirLowerBound) {
  int64_t planned = 0, bound = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const MemoryReport memory = compile(random_control_graph(seed, 30), KernelTable()).memory;
    planned += memory.symmetric_bytes + memory.scratch_bytes;
    bound += memory.live_lower_bound;
  }
  EXPECT_LE(planned, bound + bound / 10);
}

// ---- On several ranks ---------------------------------------------------------------------------

// A local graph: every rank adds up its neighbours' values until the sum is large.
Graph reducing_loop(bool uniform) {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=4"));
  graph.is_local = true;
  const AxisList data{graph.mesh->axis("data")};
  const TensorType scalar{DType::f64, {}};
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {8}});
  graph.info(x).sharding = parse_sharding(graph.mesh, "[{data}]");
  auto sum_over = [data](Builder& in, Value value, Ints shape) {
    return in.emit(ops::kAllReduce, {value},
                   {{Attr::axes, data}, {Attr::reduce_kind, ReduceKind::sum}, {Attr::shape, shape}});
  };
  const std::vector<TensorType> types{scalar, {DType::f64, {8}}};
  auto region = [&](auto body) { return graph_of(types, body, graph.mesh, true); };
  const GraphRef condition = region([&](Builder& in, const std::vector<Value>& v) {
    return std::vector<Value>{
        ops::compare(in, v[0], ops::constant(in, 1000.0, scalar), CompareDirection::lt)};
  });
  const GraphRef body = region([&](Builder& in, const std::vector<Value>& v) {
    const Value next = ops::scale(in, v[1], 1.5);
    const Value own = ops::reduce_all(in, ops::multiply(in, next, next));
    const Value all = sum_over(in, own, {});
    return std::vector<Value>{uniform ? all : ops::add(in, own, ops::scale(in, all, 0.0)), next};
  });
  const Value zero = ops::constant(b, 0.0, scalar);
  const std::vector<Value> results = ops::while_loop(b, {zero, x}, condition, body);
  b.output(results[0], "sum");
  b.output(results[1], "x");
  graph.info(results[1]).sharding = parse_sharding(graph.mesh, "[{data}]");
  if (uniform) graph.info(results[0]).sharding = parse_sharding(graph.mesh, "[]");
  return graph;
}

TEST(Control, CollectivesInLoopsRunOnAllRanks) {
  const Graph graph = reducing_loop(true);
  HostTensor x({DType::f64, {32}});
  double sum = 0;
  for (int i = 0; i < 32; ++i) x.set_real(i, 0.1 * i), sum += 0.01 * i * i;
  int turns = 0;
  double last = 0;
  for (; last < 1000; ++turns) last = (sum *= 2.25);
  const std::vector<HostTensor> results = run_on_threads(graph, KernelTable(), std::vector{x});
  EXPECT_NEAR(results[0].get_real(0), last, 1e-9 * last);
  EXPECT_NEAR(results[1].get_real(31), 3.1 * std::pow(1.5, turns), 1e-9);
}

TEST(Control, APredicateThatMayDifferIsRefusedAtCompileTime) {
  try {
    compile(reducing_loop(false), KernelTable());
    FAIL();
  } catch (const UserError& error) {
    const std::string message = error.what();
    for (const char* part : {"while", "predicate", "data", "all_reduce", "reduce the predicate"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace tessera
