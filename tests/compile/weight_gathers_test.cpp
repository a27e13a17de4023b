// Fully sharded weights: gathered ahead of their use within a window, given up behind it, and kept
// from forward to backward only where there is memory for it.
#include <gtest/gtest.h>

#include "core/compile/compile.h"
#include "core/ir/interpreter.h"
#include "core/ops/sharding.h"
#include "core/passes/keep_weights.h"
#include "core/runtime/thread_run.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

using testing::Layout;
using testing::mlp_step;
using testing::partitioned;

const Layout kSharded{"data=4", "embed=data", "batch=data", "embed=data"};

int gathers(const Graph& graph) {
  int count = 0;
  for (const Instruction& instruction : graph.instructions) count += instruction.is(ops::kAllGather);
  return count;
}

CompileOptions slow_host_link() {
  CompileOptions options;
  options.cost.links[0].bytes_per_second = 1e8;
  return options;
}

// Weights of a real model are too large to share buckets; those of the tests must not either.
PartitionOptions each_alone() {
  PartitionOptions options;
  options.bucket_bytes = 0;
  return options;
}

// The most bytes of gathered weights that are there at one time.
int64_t most_gathered(const Executable& executable) {
  std::vector<int64_t> change(executable.steps.size() + 1, 0);
  for (size_t s = 0; s < executable.steps.size(); ++s) {
    const auto* start = std::get_if<CollectiveStart>(&executable.steps[s]);
    if (!start || start->kind != CollectiveKind::all_gather) continue;
    const BufferPlan& plan = executable.buffers[static_cast<size_t>(start->output)];
    change[s] += plan.bytes;
    change[std::min(static_cast<size_t>(plan.last_step) + 1, executable.steps.size())] -= plan.bytes;
  }
  int64_t now = 0, most = 0;
  for (int64_t bytes : change) most = std::max(most, now += bytes);
  return most;
}

TEST(WeightGathers, NoMoreThanTwoBlocksAreWholeAtOnce) {
  // Two weights of [16, 32] f64 a block.
  const int64_t block = 2 * 16 * 32 * 8;
  for (const int layers : {3, 6, 10}) {
    const Graph local = partitioned(mlp_step(layers, 8, 16, 32), kSharded, each_alone());
    const Executable executable = compile(local, KernelTable(), slow_host_link());
    EXPECT_GE(gathers(local), 2 * 2 * layers - 1) << "gathered anew for the backward pass";
    EXPECT_LE(most_gathered(executable), 2 * block) << layers << " layers";
    // The next block's weights are on the way before this one's last product.
    int ahead = 0, in_flight = 0;
    for (const Step& step : executable.steps) {
      if (const auto* start = std::get_if<CollectiveStart>(&step))
        in_flight += start->kind == CollectiveKind::all_gather;
      if (const auto* done = std::get_if<CollectiveDone>(&step))
        in_flight -= std::get<CollectiveStart>(
                         executable.steps[static_cast<size_t>(done->start_step)])
                         .kind == CollectiveKind::all_gather;
      ahead += std::holds_alternative<KernelStep>(step) && in_flight > 0;
    }
    EXPECT_GT(ahead, 2 * layers) << "kernels that run while weights are on the way";
  }
}

TEST(WeightGathers, AreKeptWhereMemoryAllows) {
  const Graph graph = mlp_step(6, 8, 16, 32);
  const Graph local = partitioned(graph, kSharded, each_alone());
  const Executable lean = compile(local, KernelTable(), slow_host_link());
  int64_t before = lean.memory.peak_bytes();
  int last = gathers(lean.graph) + 1;
  for (const int64_t more : {int64_t{0}, int64_t{20000}, int64_t{40000}, int64_t{1} << 30}) {
    CompileOptions options = slow_host_link();
    options.memory_bytes = before + more;
    const Executable made = compile(local, KernelTable(), options);
    EXPECT_LE(made.memory.peak_bytes(), options.memory_bytes);
    EXPECT_LE(made.schedule.step_seconds, lean.schedule.step_seconds);
    EXPECT_LE(gathers(made.graph), last);
    last = gathers(made.graph);
  }
  EXPECT_EQ(last, gathers(keep_weights(local, int64_t{1} << 30)));
  EXPECT_LT(last, gathers(local));
  ThreadRunOptions options;
  options.compile.memory_bytes = int64_t{1} << 30;
  const std::vector<HostTensor> inputs = testing::random_inputs(graph, 3);
  const auto expected = interpret(graph, inputs);
  const auto actual = run_on_threads(local, KernelTable(), inputs, options);
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_LE(max_relative_error(actual[o], expected[o], 1e-3), 1e-10);
}

}  // namespace
}  // namespace tessera
