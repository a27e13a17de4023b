// Programs of ten thousands of instructions, with their gradients, compile in seconds.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "core/compile/compile.h"
#include "core/ir/regions.h"
#include "core/passes/common_subexpressions.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/passes/inline_calls.h"
#include "core/passes/trip_count.h"
#include "kernels/cpu/register.h"
#include "tests/autodiff/gradient_programs.h"
#include "tests/passes/large_program.h"

namespace tessera {
namespace {

template <typename Body>
double seconds_of(Body&& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Times {
  int64_t instructions = 0;
  double gradient = 0, passes = 0, compile = 0, fused = 0;
};

Times times_of(const testing::LargeProgramOptions& options, bool with_gradient) {
  Times times;
  const KernelTable kernels = cpu_kernel_table();
  Graph graph = find_trip_counts(testing::large_program(options));
  if (with_gradient)
    times.gradient = seconds_of([&] {
      Builder b(graph);
      b.output(ops::reduce_all(b, graph.outputs.back().value), "loss");
      graph = testing::gradient_graph(graph, RematPolicy::none);
    });
  times.passes = seconds_of(
      [&] { graph = eliminate_dead_code(merge_common_subexpressions(inline_calls(graph))); });
  for_each_region(graph, [&](const Graph& each) {
    times.instructions += static_cast<int64_t>(each.instructions.size());
  });
  // Without fusion there are many small steps.
  times.compile = seconds_of([&] { EXPECT_GT(compile(graph, kernels).steps.size(), 1000u); });
  times.fused = seconds_of([&] { compile(fuse_elementwise(graph), kernels); });
  std::printf("%7d instructions: gradient %6.0f ms, passes %6.0f ms, compile %6.0f ms, fusion and compile %6.0f ms\n",
              static_cast<int>(times.instructions), times.gradient * 1e3, times.passes * 1e3,
              times.compile * 1e3, times.fused * 1e3);
  return times;
}

TEST(LargeProgramsLong, CompileInSeconds) {
  for (const bool with_gradient : {false, true}) {
    std::vector<Times> times;
    for (const int factor : {1, 2})
      times.push_back(times_of(
          {.instructions = 20000 * factor, .calls = 200 * factor, .loops = 4 * factor}, with_gradient));
    EXPECT_LT(times[0].passes, 5);
    EXPECT_LT(times[0].compile, 5);
    EXPECT_LT(times[0].fused, 5);
    EXPECT_LT(times[1].compile, 6 * times[0].compile + 0.5) << "the memory plan grows faster than the program";
  }
}

// Values that loops hand round, every turn by one place; and calls in calls.
TEST(LargeProgramsLong, LongWaysRoundALoopAndDeepCalls) {
  constexpr int kCarried = 400;
  const TensorType type{DType::f32, {4}};
  Graph body, condition, graph;
  Builder bb(body), cb(condition), b(graph);
  std::vector<Value> in, start;
  for (int i = 0; i < kCarried; ++i) {
    in.push_back(bb.input(InputKind::data, cat("x", i), type));
    cb.input(InputKind::data, cat("x", i), type);
    start.push_back(b.input(InputKind::data, cat("x", i), type));
  }
  for (int i = 0; i < kCarried; ++i)
    bb.output(ops::tanh(bb, in[static_cast<size_t>((i + 1) % kCarried)]), cat("y", i));
  cb.output(ops::constant(cb, 0, {DType::pred, {}}), "goes_on");
  const auto made =
      ops::while_loop(b, start, std::make_shared<const Graph>(condition), std::make_shared<const Graph>(body), 3);
  b.output(made[0], "y");
  EXPECT_LT(seconds_of([&] { EXPECT_EQ(eliminate_dead_code(graph).instructions.size(), kCarried + 1u); }), 1);

  // f_n calls f_(n-1) twice with different values: shared, it is a small program until it is inlined.
  GraphRef callee;
  for (int depth = 0; depth < 12; ++depth) {
    auto next = std::make_shared<Graph>();
    Builder nb(*next);
    Value x = nb.input(InputKind::data, "x", type);
    for (int i = 0; i < 2; ++i) x = callee ? ops::call(nb, callee, {x})[0] : ops::tanh(nb, x);
    nb.output(x, "y");
    callee = next;
  }
  EXPECT_LT(seconds_of([&] { EXPECT_EQ(inline_calls(*callee).instructions.size(), 4097u); }), 1);
}

}  // namespace
}  // namespace tessera
