// A collective at the end of a loop's body runs beside the begin of the next turn.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/compile/compile.h"
#include "core/compile/plan_checker.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/runtime/thread_run.h"
#include "tests/compile/control_programs.h"

namespace tessera {
namespace {

using testing::graph_of;

constexpr int64_t kWidth = 64;
const TensorType kRow{DType::f64, {kWidth}}, kCount{DType::s32, {}};

struct LoopOptions {
  int64_t turns = 4;
  bool known = true;
  bool tested = false;      // the condition looks at what is reduced
  bool first_read = false;  // the body begins with reading it
};

// Every turn: y = sine(tanh(w k)); x <- all_reduce(x y / 2) over two devices; w does not change.
Graph reducing(const LoopOptions& o) {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  const AxisList data{graph.mesh->axis("data")};
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kRow), w = b.input(InputKind::parameter, "w", kRow);
  graph.info(x).sharding = parse_sharding(graph.mesh, "[{}]");
  graph.info(w).sharding = parse_sharding(graph.mesh, "[{data}]");
  const std::vector<TensorType> types{kCount, kRow, kRow};
  const GraphRef condition = graph_of(
      types,
      [&](Builder& in, const std::vector<Value>& v) {
        const Value limit = ops::constant(in, static_cast<double>(o.turns), kCount);
        Value goes_on = ops::compare(in, v[0], limit, CompareDirection::lt);
        if (o.tested) {
          const Value sum = ops::reduce_all(in, v[1]);
          goes_on = ops::logical_and(
              in, goes_on, ops::compare(in, sum, ops::constant_like(in, sum, 1e9), CompareDirection::lt));
        }
        return std::vector<Value>{goes_on};
      },
      graph.mesh, true);
  const GraphRef body = graph_of(
      types,
      [&](Builder& in, const std::vector<Value>& v) {
        const Value begin = o.first_read ? ops::negate(in, v[1]) : v[1];
        const Value k = ops::broadcast_in_dim(in, ops::convert(in, v[0], DType::f64), kRow.shape, {});
        const Value y = ops::sine(in, ops::tanh(in, ops::multiply(in, v[2], k)));
        const Value z = ops::multiply(in, begin, ops::add_scalar(in, y, 0.5));
        const Value sum = in.emit(ops::kAllReduce, {z},
                                  {{Attr::axes, data},
                                   {Attr::reduce_kind, ReduceKind::sum},
                                   {Attr::shape, Ints{kWidth}}});
        return std::vector<Value>{ops::add_scalar(in, v[0], 1), sum, v[2]};
      },
      graph.mesh, true);
  const std::vector<Value> made =
      ops::while_loop(b, {ops::constant(b, 0, kCount), ops::cosine(b, x), w}, condition, body,
                      o.known ? std::optional<int64_t>(o.turns) : std::nullopt);
  graph.info(made[1]).sharding = parse_sharding(graph.mesh, "[{}]");
  const Value after = ops::scale(b, made[1], 2.0);
  graph.info(after).sharding = parse_sharding(graph.mesh, "[{}]");
  b.output(after, "y");
  return graph;
}

CompileOptions slow_network(bool overlap) {
  CompileOptions options;
  options.schedule.overlap = overlap;
  options.cost.links[0].latency_seconds = 5e-6;  // about two kernels
  return options;
}

// Of the collective: waits before its start, between it and the loop's end, and behind the loop.
struct Waits {
  int before = 0, inside = 0, behind = 0;
};
Waits waits_of(const Executable& executable) {
  Waits waits;
  size_t start = 0, end = 0;
  for (size_t s = 0; s < executable.steps.size(); ++s) {
    if (std::holds_alternative<CollectiveStart>(executable.steps[s])) start = s;
    if (std::holds_alternative<LoopEnd>(executable.steps[s])) end = s;
  }
  for (size_t s = 0; s < executable.steps.size(); ++s)
    if (std::holds_alternative<CollectiveDone>(executable.steps[s]))
      ++(s < start ? waits.before : s < end ? waits.inside : waits.behind);
  return waits;
}

HostTensor run(const Graph& graph, bool overlap) {
  ThreadRunOptions options;
  options.compile = slow_network(overlap);
  options.steps = 3;  // nothing is left in flight from one to the next
  return run_on_threads(graph, KernelTable(),
                        std::vector<HostTensor>{HostTensor::filled({DType::f64, {kWidth}}, 0.3),
                                                HostTensor::filled({DType::f64, {2 * kWidth}}, 0.7)},
                        options)[0];
}

TEST(TurnsOverlap, TheNextTurnWaitsWhereItNeedsTheResult) {
  for (const bool known : {true, false}) {
    const Graph graph = reducing({.known = known});
    const Executable made = compile(graph, KernelTable(), slow_network(true));
    const Waits waits = waits_of(made);
    EXPECT_EQ(waits.before, 1);
    EXPECT_EQ(waits.inside, 0);
    EXPECT_EQ(waits.behind, 1);
    EXPECT_EQ(made.copies, 0);
    const Executable plain = compile(graph, KernelTable(), slow_network(false));
    EXPECT_EQ(waits_of(plain).inside, 1);
    // The report: all but the last turn hide some of it.
    const ScheduleReport &fast = made.schedule, &slow = plain.schedule;
    EXPECT_LT(fast.step_seconds, slow.step_seconds);
    EXPECT_LT(fast.exposed_communication_seconds, 0.8 * slow.exposed_communication_seconds);
    EXPECT_NEAR(fast.step_seconds, fast.compute_seconds + fast.exposed_communication_seconds, 1e-12);
  }
}

TEST(TurnsOverlap, ResultsAreTheSame) {
  for (const bool known : {true, false})
    for (const int64_t turns : {0, 1, 2, 7}) {
      const Graph graph = reducing({.turns = turns, .known = known});
      const HostTensor plain = run(graph, false);
      EXPECT_EQ(run(graph, true), plain) << turns;
      if (turns == 0) {
        EXPECT_NEAR(plain.get_real(0), 2 * std::cos(0.3), 1e-15);
      }
    }
}

TEST(TurnsOverlap, NotWhereItIsNeededAtOnce) {
  const Executable tested =
      compile(reducing({.known = false, .tested = true}), KernelTable(), slow_network(true));
  EXPECT_EQ(waits_of(tested).inside, 1);
  EXPECT_EQ(waits_of(tested).before, 0);
  const Graph graph = reducing({.first_read = true});
  EXPECT_EQ(waits_of(compile(graph, KernelTable(), slow_network(true))).inside, 1);
  EXPECT_EQ(run(graph, true), run(graph, false));
}

// Four carried rows, cut over the devices; reductions and hops among what makes the next ones.
Graph random_loop(uint64_t seed) {
  std::mt19937_64 random(seed);
  auto pick = [&](size_t count) { return static_cast<size_t>(random() % count); };
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  const AxisList data{graph.mesh->axis("data")};
  const Sharding cut = parse_sharding(graph.mesh, "[{data}]");
  Builder b(graph);
  std::vector<Value> operands{ops::constant(b, 0, kCount)};
  std::vector<TensorType> types{kCount};
  for (int i = 0; i < 4; ++i) {
    const Value x = b.input(InputKind::data, cat("x", i), kRow);
    graph.info(x).sharding = cut;
    operands.push_back(ops::tanh(b, x));
    types.push_back(kRow);
  }
  const auto turns = static_cast<int64_t>(pick(4));
  const GraphRef condition = graph_of(
      types,
      [&](Builder& in, const std::vector<Value>& v) {
        const Value limit = ops::constant(in, static_cast<double>(turns), kCount);
        return std::vector<Value>{ops::compare(in, v[0], limit, CompareDirection::lt)};
      },
      graph.mesh, true);
  const GraphRef body = graph_of(
      types,
      [&](Builder& in, const std::vector<Value>& v) {
        std::vector<Value> rows(v.begin() + 1, v.end());
        auto any = [&] { return rows[rows.size() - 1 - pick(std::min<size_t>(rows.size(), 7))]; };
        for (size_t i = 0; i < 3 + pick(8); ++i) {
          const Value x = any();
          switch (pick(5)) {
            case 0: rows.push_back(ops::tanh(in, ops::add(in, x, any()))); break;
            case 1: rows.push_back(ops::sine(in, ops::multiply(in, x, any()))); break;
            case 2: rows.push_back(ops::shift(in, x, data, 1, true)); break;
            default:
              rows.push_back(in.emit(ops::kAllReduce, {x},
                                     {{Attr::axes, data},
                                      {Attr::reduce_kind, ReduceKind::max},
                                      {Attr::shape, Ints{kWidth}}}));
          }
        }
        std::vector<Value> next{ops::add_scalar(in, v[0], 1)};
        for (size_t i = 1; i < v.size(); ++i) next.push_back(pick(5) == 0 ? v[i] : any());
        return next;
      },
      graph.mesh, true);
  const std::vector<Value> made = ops::while_loop(
      b, operands, condition, body, pick(2) ? std::optional<int64_t>(turns) : std::nullopt);
  for (size_t i = 1; i < made.size(); ++i) {
    const Value y = ops::negate(b, made[i]);
    graph.info(y).sharding = cut;
    b.output(y, cat("y", i));
  }
  return graph;
}

TEST(TurnsOverlap, RandomLoopsGiveTheSame) {
  int across = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    const Graph graph = random_loop(seed);
    const std::vector<HostTensor> inputs = [&] {
      std::vector<HostTensor> tensors(4, HostTensor({DType::f64, {2 * kWidth}}));
      for (size_t i = 0; i < tensors.size(); ++i)
        for (int64_t e = 0; e < 2 * kWidth; ++e)
          tensors[i].set_real(e, std::sin(static_cast<double>(e) + 10.0 * static_cast<double>(i + seed)));
      return tensors;
    }();
    std::vector<std::vector<HostTensor>> results;
    for (const bool overlap : {false, true}) {
      ThreadRunOptions options;
      options.compile = slow_network(overlap);
      options.steps = 2;
      results.push_back(run_on_threads(graph, KernelTable(), inputs, options));
    }
    ASSERT_EQ(results[0], results[1]) << "seed " << seed;
    const Executable executable = compile(graph, KernelTable(), slow_network(true));
    for (const Step& step : executable.steps)
      if (const auto* end = std::get_if<LoopEnd>(&step))
        across += static_cast<int>(end->in_flight.size());
  }
  EXPECT_GT(across, 30) << "collectives that go across turns";
}

TEST(TurnsOverlap, TheCheckerFindsAWaitThatComesTooLate) {
  Executable executable = compile(reducing({}), KernelTable(), slow_network(true));
  check_plan(executable);
  for (size_t s = 0; s + 1 < executable.steps.size(); ++s)
    if (std::holds_alternative<CollectiveDone>(executable.steps[s]) &&
        std::holds_alternative<KernelStep>(executable.steps[s + 1])) {
      std::swap(executable.steps[s], executable.steps[s + 1]);
      EXPECT_THROW(check_plan(executable), InternalError);
      return;
    }
  FAIL() << "no wait before a kernel";
}

}  // namespace
}  // namespace tessera
