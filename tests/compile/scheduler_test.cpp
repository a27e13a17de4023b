// What the schedule promises: reductions start when they are ready, weights are gathered ahead
// within a window, memory stays under the cap, and the order comes from the graph alone.
#include "core/compile/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/compile/compile.h"
#include "core/ops/sharding.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

using testing::kLayouts;
using testing::mlp_step;
using testing::partitioned;

// A machine on which a [64, 64] product takes about as long as sending such a matrix.
CompileOptions slow_wires() {
  CompileOptions options;
  options.cost.flops_f64 = 1e10;
  options.cost.memory_bytes_per_second = 1e11;
  options.cost.kernel_seconds = 1e-7;
  options.cost.links = {{"host", 1e-6, 1e9}};
  return options;
}

Graph local_graph() {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  return graph;
}
AxisList data_axis(const Graph& graph) { return {graph.mesh->axis("data")}; }

const TensorType kMatrix{DType::f64, {64, 64}};

// A local collective states its result shape.
Value collective(Builder& b, const OpDef& op, Value x, const Shape& result) {
  Attributes attributes{{Attr::axes, data_axis(b.graph())},
                        {Attr::shape, Ints(result.begin(), result.end())}};
  if (&op != &ops::kAllReduce) attributes.set(Attr::dimension, int64_t{0});
  if (&op != &ops::kAllGather) attributes.set(Attr::reduce_kind, ReduceKind::sum);
  return b.emit(op, {x}, attributes);
}

// Step numbers of the starts and dones of one instruction, and of kernels.
struct Order {
  explicit Order(const Executable& executable) : executable(executable) {}
  int start(Value value) const {
    for (size_t s = 0; s < executable.steps.size(); ++s)
      if (const auto* step = std::get_if<CollectiveStart>(&executable.steps[s]))
        if (step->instruction == value.instruction) return static_cast<int>(s);
    return -1;
  }
  int done(Value value) const {
    for (size_t s = 0; s < executable.steps.size(); ++s)
      if (const auto* step = std::get_if<CollectiveDone>(&executable.steps[s]))
        if (step->start_step == start(value)) return static_cast<int>(s);
    return -1;
  }
  int run(Value value) const {
    for (size_t s = 0; s < executable.steps.size(); ++s)
      if (const auto* step = std::get_if<KernelStep>(&executable.steps[s]))
        if (step->instruction == value.instruction) return static_cast<int>(s);
    return -1;
  }
  const Executable& executable;
};

// Eight backward products in a chain, each with a gradient; the program reduces all of them at the
// end.
struct Backward {
  Graph graph = local_graph();
  Builder b{graph};
  std::vector<Value> chain, gradients, reduced, updated;
  Backward() {
    Value x = b.input(InputKind::data, "x", kMatrix);
    std::vector<Value> weights;
    for (int i = 0; i < 8; ++i)
      weights.push_back(b.input(InputKind::parameter, cat("w", i), kMatrix));
    for (int i = 0; i < 8; ++i) {
      x = ops::matmul(b, x, weights[static_cast<size_t>(i)]);
      chain.push_back(x);
      gradients.push_back(ops::matmul(b, x, x));
    }
    for (Value gradient : gradients)
      reduced.push_back(collective(b, ops::kAllReduce, gradient, kMatrix.shape));
    for (size_t i = 0; i < 8; ++i) {
      updated.push_back(ops::subtract(b, weights[i], reduced[i]));
      b.output(updated.back(), cat("w", i), 1 + static_cast<int>(i));
    }
  }
};

TEST(Scheduler, ReductionsStartWhenReadyRatherThanAfterTheBackwardPass) {
  Backward backward;
  const Executable executable = compile(backward.graph, KernelTable(), slow_wires());
  const Order order(executable);
  const int last_product = order.run(backward.gradients.back());
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_LT(order.start(backward.reduced[i]), last_product)
        << "bucket " << i << " was ready earlier";
    EXPECT_GT(order.start(backward.reduced[i]), order.run(backward.gradients[i]));
  }
  // Waited for as late as possible: just before its user.
  EXPECT_GT(order.done(backward.reduced[0]), last_product);
  const Executable in_order = [&] {
    CompileOptions options = slow_wires();
    options.schedule.overlap = false;
    return compile(backward.graph, KernelTable(), options);
  }();
  EXPECT_LT(executable.schedule.step_seconds, in_order.schedule.step_seconds);
  EXPECT_LT(executable.schedule.exposed_communication_seconds,
            0.7 * in_order.schedule.exposed_communication_seconds);
  EXPECT_EQ(executable.schedule.collectives.size(), 8u);
}

TEST(Scheduler, ReportAddsUp) {
  Backward backward;
  const ScheduleReport report = compile(backward.graph, KernelTable(), slow_wires()).schedule;
  double exposed = 0;
  for (const ScheduleReport::Exposed& collective : report.collectives) {
    EXPECT_GT(collective.seconds, 0);
    EXPECT_GE(collective.exposed_seconds, 0);
    exposed += collective.exposed_seconds;
  }
  EXPECT_NEAR(exposed, report.exposed_communication_seconds, 1e-12);
  EXPECT_NEAR(report.step_seconds, report.compute_seconds + exposed, 1e-12);
}

// Independent work fills the time for which the first step in the program waits.
TEST(Scheduler, WorkGoesBeforeAStepThatWaits) {
  Graph graph = local_graph();
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix);
  const Value sent = collective(b, ops::kAllReduce, ops::matmul(b, x, x), kMatrix.shape);
  const Value waiting = ops::matmul(b, sent, sent);
  const Value independent = ops::matmul(b, x, ops::tanh(b, x));
  b.output(ops::add(b, waiting, independent), "y");
  const Executable executable = compile(graph, KernelTable(), slow_wires());
  const Order order(executable);
  EXPECT_LT(order.run(independent), order.run(waiting));
  EXPECT_EQ(order.done(sent), order.run(waiting) - 1);
}

// Fully sharded weights: gathered before their use, but never more than a window ahead.
struct Gathered {
  Graph graph = local_graph();
  Builder b{graph};
  std::vector<Value> gathers, uses;
  Gathered() {
    Value x = b.input(InputKind::data, "x", kMatrix);
    for (int i = 0; i < 6; ++i) {
      ScopeGuard scope(b, cat("block.", i));
      const Value shard = b.input(InputKind::parameter, cat("w", i), {DType::f64, {32, 64}});
      gathers.push_back(collective(b, ops::kAllGather, ops::scale(b, shard, 0.5), kMatrix.shape));
      x = ops::matmul(b, ops::matmul(b, x, gathers.back()), gathers.back());
      uses.push_back(x);
    }
    b.output(x, "y");
  }
};

TEST(Scheduler, WeightsAreGatheredOneWindowAhead) {
  Gathered gathered;
  const Executable executable = compile(gathered.graph, KernelTable(), slow_wires());
  const Order order(executable);
  for (size_t i = 0; i + 1 < gathered.gathers.size(); ++i) {
    EXPECT_LT(order.start(gathered.gathers[i + 1]), order.run(gathered.uses[i])) << "not ahead";
    if (i + 2 < gathered.gathers.size()) {
      EXPECT_GT(order.start(gathered.gathers[i + 2]), order.done(gathered.gathers[i + 1]))
          << "two windows ahead";
    }
  }
  // At most two gathered weights at once, beside two activations and a shard.
  EXPECT_LE(executable.memory.live_lower_bound, kMatrix.bytes() * 9 / 2);
}

TEST(Scheduler, MemoryCapHoldsCollectivesBack) {
  // Reductions of inputs could all start at once; the program has each beside its use.
  Graph graph = local_graph();
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kMatrix);
  Value sum = ops::tanh(b, x);
  for (int i = 0; i < 6; ++i) {
    const Value data = b.input(InputKind::data, cat("data", i), kMatrix);
    const Value reduced = collective(b, ops::kAllReduce, data, kMatrix.shape);
    sum = ops::add(b, sum, ops::matmul(b, reduced, reduced));
  }
  b.output(sum, "y");
  CompileOptions options = slow_wires();
  const StepGraph steps = build_step_graph(graph, KernelTable());
  const Schedule free = schedule_steps(steps, graph, options.cost, options.schedule);
  options.schedule.memory_cap_bytes = free.peak_live_bytes - kMatrix.bytes();
  const Schedule capped = schedule_steps(steps, graph, options.cost, options.schedule);
  EXPECT_LT(capped.peak_live_bytes, free.peak_live_bytes);
}

TEST(Scheduler, EveryStepRunsOnceAndAfterWhatItNeeds) {
  const Graph graph = mlp_step(3, 8, 8, 16);
  for (const auto& layout : kLayouts) {
    const Graph local = partitioned(graph, layout);
    const StepGraph steps = build_step_graph(local, KernelTable());
    const Schedule schedule = schedule_steps(steps, local, CostModel(), ScheduleOptions());
    std::vector<int> complete(steps.nodes.size(), -1), begun(steps.nodes.size(), -1);
    for (size_t s = 0; s < schedule.actions.size(); ++s) {
      const Action& action = schedule.actions[s];
      auto& begin = begun[static_cast<size_t>(action.node)];
      if (action.kind != Action::Kind::done) {
        EXPECT_EQ(begin, -1);
        begin = static_cast<int>(s);
        for (int before : steps.nodes[static_cast<size_t>(action.node)].before) {
          EXPECT_GE(complete[static_cast<size_t>(before)], 0) << "before its operands";
        }
      }
      if (action.kind != Action::Kind::start)
        complete[static_cast<size_t>(action.node)] = static_cast<int>(s);
    }
    EXPECT_EQ(std::count(complete.begin(), complete.end(), -1), 0);
    // The same again: nothing but the graph decides.
    const Schedule again = schedule_steps(steps, local, CostModel(), ScheduleOptions());
    ASSERT_EQ(again.actions.size(), schedule.actions.size());
    for (size_t s = 0; s < again.actions.size(); ++s)
      EXPECT_EQ(again.actions[s].node, schedule.actions[s].node);
  }
}

}  // namespace
}  // namespace tessera
