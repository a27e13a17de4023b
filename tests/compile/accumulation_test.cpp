// Microbatches of a GPT step add their gradients where the accumulators lie (beta = 1).
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>

#include "core/compile/compile.h"
#include "core/ops/accumulate.h"
#include "core/passes/accumulate_products.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/runtime/executor.h"
#include "kernels/cpu/register.h"
#include "tests/compile/small_gpt.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

using testing::small_gpt;

int products_added(const Executable& executable) {
  int found = 0;
  for (const Step& step : executable.steps)
    if (const auto* kernel = std::get_if<KernelStep>(&step))
      found += executable.instruction_of(kernel->region, kernel->instruction)
                   .is(ops::kDotGeneralAdd);
  return found;
}

TEST(Accumulation, EveryWeightGradientOfABlockGoesIntoItsAccumulator) {
  const KernelTable kernels = cpu_kernel_table();
  const models::StepConfig config = small_gpt(3, 32, 4, 8);
  const Graph local =
      testing::partitioned(models::build_accumulate(config), {"data=2", "", "batch=data", ""});
  const Executable plain = compile(fuse_elementwise(local), kernels);
  const Executable made = compile(fuse_elementwise(accumulate_products(local)), kernels);
  // Query, key and value, the attention's output, and two of the multilayer perceptron.
  EXPECT_GE(products_added(made), 4 * 3);
  EXPECT_EQ(made.copies, 0);
  EXPECT_LE(made.memory.peak_bytes(), plain.memory.peak_bytes());
  EXPECT_LT(made.steps.size(), plain.steps.size());
  EXPECT_TRUE(made.reference_kernels.empty());
}

// Both programs in turn in one run, so that the ratio holds on a busy machine.
TEST(AccumulationLong, IsFasterThanAProductAndASum) {
  const KernelTable kernels = cpu_kernel_table();
  for (const int64_t tokens : {64, 256}) {
    const Graph graph =
        eliminate_dead_code(models::build_accumulate(small_gpt(4, 512, tokens / 64, 64)));
    const Executable plain = compile(fuse_elementwise(graph), kernels);
    const Executable made = compile(fuse_elementwise(accumulate_products(graph)), kernels);
    const auto backend = create_cpu_backend(KernelTable());
    BufferStore store(*backend, nullptr);
    Executor before(plain, *backend, nullptr, 0, store), after(made, *backend, nullptr, 0, store);
    for (size_t i = 0; i < graph.inputs.size(); ++i) {
      const TensorView view = before.input(static_cast<int>(i));
      std::memset(view.data, 0, static_cast<size_t>(view.type.bytes()));
    }
    std::vector<double> ratios;
    double best_before = 1e9, best_after = 1e9;
    auto seconds = [](Executor& executor) {
      const auto begin = std::chrono::steady_clock::now();
      executor.run();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    for (int round = 0; round < 9; ++round) {
      const double a = seconds(before), b = seconds(after);
      ratios.push_back(b / a);
      best_before = std::min(best_before, a);
      best_after = std::min(best_after, b);
    }
    std::sort(ratios.begin(), ratios.end());
    std::printf(
        "%d tokens: %d products into accumulators; best %.2f ms against %.2f, ratio of bests %.3f, "
        "median of ratios %.3f; scratch %.2f MiB against %.2f\n",
        static_cast<int>(tokens), products_added(made), best_after * 1e3, best_before * 1e3,
        best_after / best_before, ratios[4],
        static_cast<double>(made.memory.scratch_bytes) / (1 << 20),
        static_cast<double>(plain.memory.scratch_bytes) / (1 << 20));
    EXPECT_LT(ratios[4], 1.05);
  }
}

}  // namespace
}  // namespace tessera
