// A compiled graph computes what the interpreter computes: on one device, and partitioned on
// threads.
#include "core/compile/compile.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "core/ir/interpreter.h"
#include "core/ir/text.h"
#include "core/runtime/thread_run.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

using testing::kLayouts;
using testing::mlp_step;
using testing::partitioned;
using testing::random_graph;
using testing::random_inputs;

// check_plan runs inside compile(), and freed memory is poisoned with NaN.
void expect_equal(const Graph& graph, const Graph& local, double tolerance,
                  const ThreadRunOptions& options = {}) {
  const std::vector<HostTensor> inputs = random_inputs(graph, 7);
  const std::vector<HostTensor> expected = interpret(graph, inputs);
  const std::vector<HostTensor> actual = run_on_threads(local, KernelTable(), inputs, options);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t o = 0; o < expected.size(); ++o) {
    if (tolerance == 0)
      EXPECT_EQ(actual[o], expected[o]) << graph.outputs[o].name << "\n" << print_graph(graph);
    else
      EXPECT_LE(max_relative_error(actual[o], expected[o], 1e-3), tolerance)
          << graph.outputs[o].name;
  }
}

RC_GTEST_PROP(Compile, RandomGraphsEqualTheInterpreter, ()) {
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto size = *rc::gen::inRange(1, 60);
  const Graph graph = random_graph(seed, size);
  expect_equal(graph, graph, 0);
}

TEST(Compile, TrainingStepUpdatesInPlaceWithoutCopies) {
  const Graph graph = mlp_step(3, 8, 8, 16);
  const Executable executable = compile(graph, KernelTable());
  EXPECT_EQ(executable.copies, 0);
  for (size_t o = 0; o < graph.outputs.size(); ++o) {
    if (graph.outputs[o].alias_input < 0) continue;
    const BufferPlan& output =
        executable.buffers[static_cast<size_t>(executable.output_buffers[o])];
    EXPECT_EQ(output.arena, Arena::persistent);
    EXPECT_EQ(output.input, graph.outputs[o].alias_input);
    EXPECT_EQ(output.offset, 0);
  }
  expect_equal(graph, graph, 0);
}

TEST(Compile, PartitionedStepsEqualTheInterpreterOnThreads) {
  const Graph graph = mlp_step(2, 8, 8, 16);
  for (const auto& layout : kLayouts) {
    SCOPED_TRACE(layout.mesh);
    SCOPED_TRACE(layout.parameters);
    expect_equal(graph, partitioned(graph, layout), 1e-10);
    ThreadRunOptions in_order;
    in_order.compile.schedule.overlap = false;
    expect_equal(graph, partitioned(graph, layout), 1e-10, in_order);
  }
}

TEST(Compile, SeveralStepsOnThreadsEqualSeveralInterpretedOnes) {
  const Graph graph = mlp_step(2, 8, 8, 16);
  std::vector<HostTensor> inputs = random_inputs(graph, 3);
  ThreadRunOptions options;
  options.steps = 3;
  const std::vector<HostTensor> actual =
      run_on_threads(partitioned(graph, kLayouts[2]), KernelTable(), inputs, options);
  std::vector<HostTensor> expected;
  for (int step = 0; step < options.steps; ++step) {
    expected = interpret(graph, inputs);
    for (size_t o = 0; o < graph.outputs.size(); ++o)
      if (const int input = graph.outputs[o].alias_input; input >= 0)
        inputs[static_cast<size_t>(input)] = expected[o];
  }
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_LE(max_relative_error(actual[o], expected[o], 1e-3), 1e-10);
}

// Two parameters change places: one of them must be copied aside.
TEST(Compile, SwappedParametersCostCopies) {
  Graph graph;
  Builder b(graph);
  const Value p = b.input(InputKind::parameter, "p", {DType::f64, {8}});
  const Value q = b.input(InputKind::parameter, "q", {DType::f64, {8}});
  b.output(q, "p", 0);
  b.output(p, "q", 1);
  const Executable executable = compile(graph, KernelTable());
  EXPECT_GT(executable.copies, 0);
  expect_equal(graph, graph, 0);
}

// The old value of a parameter is asked for beside the new one.
TEST(Compile, OldValueOfAnOverwrittenInputSurvivesAsOutput) {
  Graph graph;
  Builder b(graph);
  const Value p = b.input(InputKind::parameter, "p", {DType::f64, {8}});
  b.output(ops::tanh(b, p), "p", 0);
  b.output(p, "old");
  expect_equal(graph, graph, 0);
}

// A reader of the old value that depends on the new one cannot come first.
TEST(Compile, ReaderOfTheOldValueAfterTheNewOneCostsACopy) {
  Graph graph;
  Builder b(graph);
  const Value p = b.input(InputKind::parameter, "p", {DType::f64, {8}});
  const Value next = ops::tanh(b, p);
  b.output(next, "p", 0);
  b.output(ops::subtract(b, next, p), "change");
  const Executable executable = compile(graph, KernelTable());
  EXPECT_EQ(executable.copies, 1);
  expect_equal(graph, graph, 0);
}

// A later reader is moved before the overwriting step.
TEST(Compile, ReadersOfTheOldValueRunBeforeItIsOverwritten) {
  Graph graph;
  Builder b(graph);
  const Value p = b.input(InputKind::parameter, "p", {DType::f64, {8}});
  b.output(ops::tanh(b, p), "p", 0);
  b.output(ops::negate(b, p), "minus");
  const Executable executable = compile(graph, KernelTable());
  EXPECT_EQ(executable.copies, 0);
  expect_equal(graph, graph, 0);
}

TEST(Compile, ReferenceKernelsAreListedWithTheRefusals) {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", {DType::f64, {7}});
  b.output(ops::tanh(b, x), "y");
  KernelTable table;
  Kernel kernel;
  kernel.name = "cpu.tanh";
  kernel.accept = [](const OpCall&, std::span<const TensorType>) -> std::optional<std::string> {
    return "7 is odd";
  };
  kernel.run = [](const KernelArgs&) {};
  table.add(ops::kTanh, kernel);
  const Executable executable = compile(graph, table);
  ASSERT_EQ(executable.reference_kernels.size(), 1u);
  EXPECT_EQ(executable.reference_kernels[0].refusals,
            std::vector<std::string>{"cpu.tanh: 7 is odd"});
}

}  // namespace
}  // namespace tessera
