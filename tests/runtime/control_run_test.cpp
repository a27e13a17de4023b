// Loops and branches on the executor: no allocation, collectives in step, ranks that go different
// ways found, and every result seen with the graph that it belongs to.
#include <gtest/gtest.h>

#include <set>

#include "core/compile/compile.h"
#include "core/ops/control.h"
#include "core/ops/sharding.h"
#include "core/runtime/executor.h"
#include "core/runtime/thread_world.h"
#include "core/runtime/timeline.h"
#include "tests/compile/control_programs.h"
#include "tests/runtime/heap_count.h"

namespace tessera {
namespace {

using testing::graph_of;

const TensorType kVector{DType::f32, {64}};
const TensorType kScalar{DType::f32, {}};

Kernel kernel_of(const char* name, void (*run)(const KernelArgs&)) {
  Kernel kernel;
  kernel.name = name;
  kernel.run = run;
  return kernel;
}

// Kernels of our own, so that only the executor and the communicators are looked at.
KernelTable own_kernels() {
  KernelTable table;
  table.add(ops::kNegate, kernel_of("negate", [](const KernelArgs& args) {
              for (int64_t i = 0; i < args.results[0].type.elements(); ++i)
                args.results[0].as<float>()[i] = -args.operands[0].as<float>()[i];
            }));
  table.add(ops::kAdd, kernel_of("add", [](const KernelArgs& args) {
              for (int64_t i = 0; i < args.results[0].type.elements(); ++i)
                args.results[0].as<float>()[i] =
                    args.operands[0].as<float>()[i] + args.operands[1].as<float>()[i];
            }));
  table.add(ops::kCompare, kernel_of("less", [](const KernelArgs& args) {
              *args.results[0].as<bool>() =
                  *args.operands[0].as<float>() < *args.operands[1].as<float>();
            }));
  return table;
}

// while (turn < limit) { x = -all_reduce(x); turn += 1 }
Graph summing_loop(bool known) {
  Graph graph;
  graph.mesh = std::make_shared<const Mesh>(parse_mesh("data=2"));
  graph.is_local = true;
  const AxisList data{graph.mesh->axis("data")};
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kVector);
  const Value limit = b.input(InputKind::scalar, "limit", kScalar);
  graph.info(x).sharding = parse_sharding(graph.mesh, "[{data}]");
  graph.info(limit).sharding = parse_sharding(graph.mesh, "[]");
  const std::vector<TensorType> types{kScalar, kScalar, kVector};
  const GraphRef condition = graph_of(
      types,
      [](Builder& in, const std::vector<Value>& v) {
        return std::vector<Value>{ops::compare(in, v[0], v[1], CompareDirection::lt)};
      },
      graph.mesh, true);
  const GraphRef body = graph_of(
      types,
      [&](Builder& in, const std::vector<Value>& v) {
        const Value sum = in.emit(ops::kAllReduce, {v[2]},
                                  {{Attr::axes, data},
                                   {Attr::reduce_kind, ReduceKind::sum},
                                   {Attr::shape, Ints{64}}});
        return std::vector<Value>{ops::add(in, v[0], ops::constant(in, 1.0, kScalar)), v[1],
                                  ops::negate(in, sum)};
      },
      graph.mesh, true);
  const std::vector<Value> results =
      ops::while_loop(b, {ops::constant(b, 0.0, kScalar), limit, x}, condition, body,
                      known ? std::optional<int64_t>(3) : std::nullopt);
  b.output(results[2], "x");
  return graph;
}

TEST(ControlRun, LoopsWithCollectivesAskNothingOfTheHeap) {
  const KernelTable table = own_kernels();
  for (const bool known : {false, true}) {
    const Executable executable = compile(summing_loop(known), table);
    run_thread_ranks(2, [&](World& world) {
      const auto backend = create_cpu_backend(KernelTable());
      BufferStore store(*backend, &world);
      Executor executor(executable, *backend, &world, world.rank(), store);
      for (int i = 0; i < 64; ++i) executor.input(0).as<float>()[i] = static_cast<float>(i);
      *executor.input(1).as<float>() = 3;
      for (int repeat = 0; repeat < 50; ++repeat) executor.run();
      const int64_t before = testing::heap_requests();
      for (int repeat = 0; repeat < 5; ++repeat) executor.run();
      EXPECT_EQ(testing::heap_requests(), before);
      EXPECT_EQ(executor.output(0).as<float>()[10], -80.0f);
    });
  }
}

// What `events` of a timeline there are of the steps that hold a `Kind`.
template <typename Kind>
std::vector<Timeline::Step> timed(const Timeline& timeline) {
  std::vector<Timeline::Step> found;
  for (const Timeline::Step& it : timeline.steps)
    if (it.step != Timeline::kRun &&
        std::holds_alternative<Kind>(it.executable->steps[static_cast<size_t>(it.step)]))
      found.push_back(it);
  return found;
}

TEST(ControlRun, ATimelineHoldsEveryTurnOfALoop) {
  const KernelTable table = own_kernels();
  for (const bool known : {false, true}) {
    const Executable executable = compile(summing_loop(known), table);
    run_thread_ranks(2, [&](World& world) {
      const auto backend = create_cpu_backend(KernelTable());
      BufferStore store(*backend, &world);
      Executor executor(executable, *backend, &world, world.rank(), store);
      for (int i = 0; i < 64; ++i) executor.input(0).as<float>()[i] = static_cast<float>(i);
      *executor.input(1).as<float>() = 3;
      executor.run();
      Timeline timeline;
      backend->begin_times();
      executor.set_timeline(&timeline);
      executor.run();
      EXPECT_EQ(executor.output(0).as<float>()[10], -80.0f);
      const auto loops = timed<LoopBegin>(timeline);
      ASSERT_EQ(loops.size(), 1u);
      const auto starts = timed<CollectiveStart>(timeline), dones = timed<CollectiveDone>(timeline);
      ASSERT_EQ(starts.size(), 3u);
      ASSERT_EQ(dones.size(), 3u);
      for (size_t turn = 0; turn < 3; ++turn) {
        EXPECT_EQ(starts[turn].ticket, dones[turn].ticket);
        EXPECT_LE(starts[turn].begin, dones[turn].begin);
        EXPECT_EQ(starts[turn].ticket, starts[0].ticket + static_cast<Ticket>(turn));
      }
      // Everything has its end, and what the loop holds ends before the loop does.
      for (const Timeline::Step& it : timeline.steps) {
        ASSERT_GE(it.end, 0);
        EXPECT_LE(backend->time_of(it.begin), backend->time_of(it.end));
      }
      EXPECT_LT(loops[0].begin, starts[0].begin);
      EXPECT_LE(dones[2].end, loops[0].end);
      EXPECT_EQ(timed<LoopTest>(timeline).size(), known ? 0u : 4u);
      EXPECT_NE(step_title(executable, starts[0].step).find("start all_reduce"), std::string::npos);
    });
  }
}

// The graph says that all ranks have the same limit; they have not.
TEST(ControlRun, RanksThatGoDifferentWaysAreFoundInDebugRuns) {
  const KernelTable table = own_kernels();
  const Executable executable = compile(summing_loop(false), table);
  try {
    run_thread_ranks(2, [&](World& world) {
      const auto backend = create_cpu_backend(KernelTable());
      BufferStore store(*backend, &world);
      Executor executor(executable, *backend, &world, world.rank(), store,
                        {.check_uniform = true});
      std::fill_n(executor.input(0).as<float>(), 64, 1.0f);
      *executor.input(1).as<float>() = static_cast<float>(2 + world.rank());
      executor.run();
    });
    FAIL();
  } catch (const UserError& error) {
    const std::string message = error.what();
    for (const char* part : {"while", "data", "do not go the same way", "(turn 2)"})
      EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(ControlRun, ObserversSeeResultsWithTheirGraph) {
  const KernelTable table = own_kernels();
  const Executable executable = compile(summing_loop(false), table);
  run_thread_ranks(2, [&](World& world) {
    const auto backend = create_cpu_backend(KernelTable());
    BufferStore store(*backend, &world);
    Executor executor(executable, *backend, &world, world.rank(), store);
    std::fill_n(executor.input(0).as<float>(), 64, 1.0f);
    *executor.input(1).as<float>() = 2;
    std::map<std::string, int> seen;
    executor.set_observer([&](const Graph& graph, Value value, const TensorView& view) {
      EXPECT_EQ(view.type, graph.type(value));
      ++seen[std::string(graph.at(value).op->name)];
    });
    executor.run();
    const std::map<std::string, int> expected{
        {"compare", 3}, {"all_reduce", 2}, {"negate", 2}, {"add", 2}, {"while", 3}};
    EXPECT_EQ(seen, expected);
  });
}

}  // namespace
}  // namespace tessera
