// Layers as a loop over stacked weights, as JAX writes scan: a turn costs the kernels of its body. What
// is carried stays where it is, stacks are written where they lie, and weights are read there.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ops/control.h"
#include "core/ops/dynamic_slice.h"
#include "core/passes/algebraic.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/constant_folding.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/inline_calls.h"
#include "core/runtime/thread_run.h"
#include "kernels/cpu/register.h"
#include "tests/autodiff/gradient_programs.h"
#include "tests/compile/control_programs.h"

namespace tessera {
namespace {

using testing::counted_loop;

constexpr int64_t kTurns = 5, kBatch = 8, kWidth = 16;
const TensorType kRows{DType::f64, {kBatch, kWidth}};

// h <- tanh(h w[turn] + b), and each h into a stack.
Graph scan() {
  Graph graph;
  Builder b(graph);
  const Value x = b.input(InputKind::data, "x", kRows);
  const Value w = b.input(InputKind::parameter, "w", {DType::f64, {kTurns, kWidth, kWidth}});
  const Value bias = b.input(InputKind::parameter, "bias", {DType::f64, {kWidth}});
  const Value zeros = ops::broadcast_in_dim(b, ops::constant(b, 0.0, {DType::f64, {}}),
                                            {kTurns, kBatch, kWidth}, {});
  const std::vector<Value> results = counted_loop(
      b, kTurns, {ops::sine(b, x), w, bias, zeros},
      [](Builder& body, const std::vector<Value>& in, Value turn) {
        const Value own = ops::reshape(body, ops::dynamic_slice_dim(body, in[1], 0, turn, 1),
                                       {kWidth, kWidth});
        const Value sum = ops::add(body, ops::matmul(body, in[0], own),
                                   ops::broadcast_last(body, in[2], kRows.shape));
        const Value next = ops::tanh(body, sum);
        const Value slot = ops::reshape(body, next, {1, kBatch, kWidth});
        return std::vector<Value>{next, in[1], in[2],
                                  ops::dynamic_update_slice_dim(body, in[3], slot, 0, turn)};
      },
      true);
  b.output(results[3], "stack");
  b.output(ops::reduce_all(b, ops::multiply(b, results[0], ops::sine(b, results[0]))), "loss");
  return graph;
}

Graph simplified(Graph graph) {
  graph = simplify_algebra(inline_calls(graph));
  graph = merge_common_subexpressions(fold_constants(graph, {.most_elements = 8}));
  return fuse_elementwise(eliminate_dead_code(graph));
}

const BufferPlan& plan(const Executable& executable, int buffer) {
  return executable.buffers[static_cast<size_t>(buffer)];
}
bool same_place(const BufferPlan& a, const BufferPlan& b) {
  return a.arena == b.arena && a.input == b.input && a.offset == b.offset;
}

// Names of the ops that a turn of the loop which begins at `step` runs. Whatever is as large as a stack
// must be an update in place.
std::multiset<std::string> ops_of_a_turn(const Executable& executable, size_t step) {
  std::multiset<std::string> ops;
  const auto& loop = std::get<LoopBegin>(executable.steps[step]);
  for (size_t s = step + 1; s < static_cast<size_t>(loop.end_step); ++s) {
    const auto& kernel = std::get<KernelStep>(executable.steps[s]);
    const Instruction& it = executable.instruction_of(kernel.region, kernel.instruction);
    ops.insert(std::string(it.op->name));
    for (int result : kernel.results) {
      if (plan(executable, result).type.rank() != 3 || plan(executable, result).type.shape[0] == 1)
        continue;
      EXPECT_EQ(it.op->name, "dynamic_update_slice");
      EXPECT_TRUE(same_place(plan(executable, result), plan(executable, kernel.operands[0])));
    }
  }
  return ops;
}

std::vector<size_t> loops_of(const Executable& executable) {
  std::vector<size_t> loops;
  for (size_t s = 0; s < executable.steps.size(); ++s)
    if (std::holds_alternative<LoopBegin>(executable.steps[s])) loops.push_back(s);
  return loops;
}

// No copies, and no memory for the zeros with which stacks begin.
void expect_lean(const Executable& executable) {
  EXPECT_EQ(executable.copies, 0);
  for (const Step& step : executable.steps) EXPECT_FALSE(std::holds_alternative<CopyStep>(step));
  EXPECT_LE(executable.memory.constant_bytes, 2048);
  EXPECT_TRUE(executable.reference_kernels.empty());
}

void expect_equal(const Graph& made, const Graph& source) {
  const std::vector<HostTensor> inputs = testing::random_inputs(source, 3);
  const auto expected = interpret(source, inputs);
  ThreadRunOptions options;
  options.steps = 2;  // what the first step leaves behind does not matter
  const auto actual = run_on_threads(made, cpu_kernel_table(), inputs, options);
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_LE(max_relative_error(actual[o], expected[o], 1e-3), 1e-10) << made.outputs[o].name;
}

TEST(Scan, ATurnCostsTheKernelsOfItsBody) {
  const Graph source = scan(), graph = simplified(source);
  const KernelTable kernels = cpu_kernel_table();
  const Executable executable = compile(graph, kernels);
  expect_lean(executable);
  ASSERT_EQ(loops_of(executable).size(), 1u);
  const size_t begin = loops_of(executable)[0];
  const std::multiset<std::string> expected{"dynamic_slice", "dot_general", "fusion",
                                            "dynamic_update_slice", "fusion"};
  EXPECT_EQ(ops_of_a_turn(executable, begin), expected);
  // Weights are read where the parameters lie; the rest lies in one place over all turns.
  for (const HandedOn& pair : std::get<LoopBegin>(executable.steps[begin]).carried) {
    const BufferPlan &from = plan(executable, pair.from), &to = plan(executable, pair.to);
    EXPECT_TRUE(same_place(from, to) || from.type.elements() == 1) << from.tensor;
    EXPECT_TRUE(from.input != 1 || to.arena == Arena::persistent);
  }
  // The stack, what is carried, and what a turn needs: a slice of weights and a product.
  const int64_t rows = kRows.bytes();
  EXPECT_LE(executable.memory.scratch_bytes,
            kTurns * rows + 2 * rows + kWidth * kWidth * 8 + 4 * 64);
  expect_equal(graph, source);
}

TEST(Scan, SoDoesATurnOfItsGradient) {
  for (const RematPolicy policy : {RematPolicy::none, RematPolicy::dots, RematPolicy::full}) {
    const Graph source = testing::gradient_graph(scan(), policy), graph = simplified(source);
    const KernelTable kernels = cpu_kernel_table();
    const Executable executable = compile(graph, kernels);
    expect_lean(executable);
    ASSERT_EQ(loops_of(executable).size(), 2u);
    const auto forward = ops_of_a_turn(executable, loops_of(executable)[0]);
    const auto backward = ops_of_a_turn(executable, loops_of(executable)[1]);
    EXPECT_EQ(forward.count("dot_general"), 1u);
    EXPECT_EQ(backward.count("dot_general"), policy == RematPolicy::full ? 3u : 2u);
    // Weights are sliced again, not stacked: the forward loop makes stacks of rows alone.
    const auto& loop = std::get<LoopBegin>(executable.steps[loops_of(executable)[0]]);
    for (const HandedOn& pair : loop.carried)
      if (plan(executable, pair.to).type == TensorType{DType::f64, {kTurns, kWidth, kWidth}}) {
        EXPECT_EQ(plan(executable, pair.to).input, 1) << "the parameter itself";
      }
    expect_equal(graph, source);
  }
}

// Two stacks that begin alike, as merging leaves them, are filled in separately.
TEST(Scan, StacksThatBeginAlikeShareOneNumber) {
  for (const double fill : {0.0, 1.5})
    for (const bool is_broadcast : {false, true}) {
      Graph graph;
      Builder b(graph);
      const Value x = ops::sine(b, b.input(InputKind::data, "x", kRows));
      const TensorType stack{DType::f64, {kTurns, kBatch, kWidth}};
      const Value begin =
          is_broadcast
              ? ops::broadcast_in_dim(b, ops::constant(b, fill, {DType::f64, {}}), stack.shape, {})
              : ops::constant(b, fill, stack);
      const std::vector<Value> results = counted_loop(
          b, kTurns - 1, {x, begin, begin},
          [](Builder& body, const std::vector<Value>& in, Value turn) {
            const Value next = ops::tanh(body, in[0]);
            const Value slot = ops::reshape(body, next, {1, kBatch, kWidth});
            return std::vector<Value>{
                next, ops::dynamic_update_slice_dim(body, in[1], slot, 0, turn),
                ops::dynamic_update_slice_dim(body, in[2], ops::negate(body, slot), 0, turn)};
          },
          true);
      b.output(results[1], "up");
      b.output(results[2], "down");
      const KernelTable kernels = cpu_kernel_table();
      const Executable executable = compile(graph, kernels);
      expect_lean(executable);
      EXPECT_EQ(executable.memory.scratch_bytes, 2 * stack.bytes() + 2 * kRows.bytes() + 64);
      for (const Step& step : executable.steps)
        if (const auto* kernel = std::get_if<KernelStep>(&step)) {
          EXPECT_FALSE(executable.instruction_of(kernel->region, kernel->instruction)
                           .is(ops::kBroadcastInDim));
        }
      expect_equal(graph, graph);
      // Where somebody else reads it, it is there as well.
      b.output(ops::reduce_all(b, ops::tanh(b, begin)), "sum");
      expect_equal(graph, graph);
    }
}

// The simulated machine pays for slices, not for the stacks that they are of.
TEST(Scan, TheSimulatedTurnDoesNotGrowWithTheNumberOfTurns) {
  const KernelTable kernels = cpu_kernel_table();
  auto seconds = [&](int64_t turns) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input(InputKind::data, "x", kRows);
    const Value w = b.input(InputKind::parameter, "w", {DType::f64, {turns, kWidth, kWidth}});
    b.output(counted_loop(
                 b, turns, {x, w},
                 [](Builder& body, const std::vector<Value>& in, Value turn) {
                   const Value own = ops::reshape(
                       body, ops::dynamic_slice_dim(body, in[1], 0, turn, 1), {kWidth, kWidth});
                   return std::vector<Value>{ops::tanh(body, ops::matmul(body, in[0], own)), in[1]};
                 },
                 true)[0],
             "y");
    return compile(graph, kernels).schedule.step_seconds / static_cast<double>(turns);
  };
  EXPECT_NEAR(seconds(1000), seconds(10), 1e-12);
}

}  // namespace
}  // namespace tessera
