// What the schedule hides on real runs, over a network that is as slow as the test wants it
// (core/runtime/delayed_network.h).
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <mutex>

#include "core/compile/compile.h"
#include "core/passes/dead_code.h"
#include "core/passes/elementwise_fusion.h"
#include "core/runtime/delayed_network.h"
#include "core/runtime/executor.h"
#include "core/runtime/thread_world.h"
#include "kernels/cpu/register.h"
#include "partitioner/collective_matmul.h"
#include "tests/compile/small_gpt.h"
#include "tests/compile/test_steps.h"

namespace tessera {
namespace {

models::StepConfig gpt(int layers, int64_t embed, int64_t batch, int64_t length) {
  models::StepConfig config = testing::small_gpt(layers, embed, batch, length);
  config.clip_norm = 0;  // its norm needs all gradients at once
  return config;
}

Graph lowered(const Graph& source, const testing::Layout& layout, int64_t bucket_bytes,
              RingDirections rings = RingDirections::none) {
  ShardingConfig config;
  config.parameter_rules = testing::rules(layout.parameters);
  config.activation_rules = testing::rules(layout.activations);
  config.optimizer_rules = testing::rules(layout.optimizer);
  PartitionOptions options;
  options.bucket_bytes = bucket_bytes;
  Graph local = partition(source, std::make_shared<const Mesh>(parse_mesh(layout.mesh)), config,
                          options);
  if (rings != RingDirections::none)
    local = collective_matmul(local, {.directions = rings, .only_where_it_pays = false});
  return fuse_elementwise(eliminate_dead_code(local));
}

const testing::Layout kData{"data=2", "", "batch=data", ""};
const testing::Layout kSharded{"data=2", "embed=data", "batch=data", "embed=data"};
const testing::Layout kSharded4{"data=4", "embed=data", "batch=data", "embed=data"};

struct Measured {
  double step_seconds = 0, best_seconds = 0;            // median and best of rank 0
  std::vector<WaitRecord> waits;                        // of rank 0, in one step
  std::vector<Executor::MeasuredCollective> collectives;  // of rank 0, over all timed steps
};

Measured measure(const Executable& executable, const NetworkModel& model, int steps) {
  Measured measured;
  DelayedNetwork network(model);
  const auto ranks = static_cast<int>(executable.graph.mesh->devices());
  run_thread_ranks(ranks, [&](World& world) {
    const auto delayed = network.connect(world);
    const auto backend = create_cpu_backend(KernelTable());
    BufferStore store(*backend, delayed.get());
    Executor executor(executable, *backend, delayed.get(), world.rank(), store, {.profile = true});
    for (size_t i = 0; i < executable.graph.inputs.size(); ++i) {
      const TensorView view = executor.input(static_cast<int>(i));
      std::memset(view.data, 0, static_cast<size_t>(view.type.bytes()));
    }
    executor.run();
    std::vector<double> seconds;
    for (int step = 0; step < steps; ++step) {
      delayed->clear();
      delayed->record(true);
      world.barrier();
      const auto begin = std::chrono::steady_clock::now();
      executor.run();
      seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    if (world.rank() != 0) return;
    std::sort(seconds.begin(), seconds.end());
    measured.step_seconds = seconds[seconds.size() / 2];
    measured.best_seconds = seconds[0];
    measured.waits = delayed->waits();
    measured.collectives = executor.collectives();
  });
  return measured;
}

// Reductions that the program starts before its last product, by the number of their instruction.
std::set<int> ready_early(const Executable& executable) {
  std::set<int> early, started;
  for (const Step& step : executable.steps) {
    if (const auto* start = std::get_if<CollectiveStart>(&step)) started.insert(start->instruction);
    if (const auto* kernel = std::get_if<KernelStep>(&step);
        kernel && executable.graph.instructions[static_cast<size_t>(kernel->instruction)].is(
                      ops::kDotGeneral))
      early = started;
  }
  return early;
}

int exposed(const std::vector<WaitRecord>& waits) {
  return static_cast<int>(
      std::count_if(waits.begin(), waits.end(), [](const WaitRecord& w) { return !w.was_over; }));
}

CompileOptions with_network(const NetworkModel& model, bool overlap) {
  CompileOptions options;
  options.cost.links[0].latency_seconds = model.latency_seconds;
  options.cost.links[0].bytes_per_second = model.bytes_per_second;
  options.schedule.overlap = overlap;
  return options;
}

// Time counted in kernels, so that no noise of the machine enters: a collective that takes as long
// as eight kernels is over when it is waited for, unless the backward pass ended before.
TEST(Overlap, BucketsReadyBeforeTheLastBackwardKernelAreNotExposed) {
  const Graph graph = models::build_step(gpt(4, 32, 4, 16), false);
  const KernelTable kernels = cpu_kernel_table();
  const Graph local = lowered(graph, kData, 32 << 10);
  const NetworkModel slow{.latency_seconds = 2e-5, .bytes_per_second = 1e9};
  const Executable overlapped = compile(local, kernels, with_network(slow, true));
  const Executable in_order = compile(local, kernels, with_network(slow, false));
  const NetworkModel eight_kernels{.polls = 8};
  const std::vector<WaitRecord> waits = measure(overlapped, eight_kernels, 1).waits;
  const std::vector<WaitRecord> all = measure(in_order, eight_kernels, 1).waits;
  ASSERT_GE(all.size(), 6u) << "too few buckets to tell anything";
  EXPECT_EQ(exposed(all), static_cast<int>(all.size())) << "a wait right behind its start is exposed";
  const std::set<int> early = ready_early(overlapped);
  EXPECT_GE(early.size() + 3, waits.size()) << "buckets are reduced behind the backward pass";
  // What is exposed is what was ready last, and nothing that was ready before the last product.
  EXPECT_LE(exposed(waits), static_cast<int>(waits.size() - early.size()) + 1);
  EXPECT_LT(exposed(waits), exposed(all) / 2);
}

// The whole of a collective's time is either behind compute or waited for.
TEST(Overlap, ExposedCommunicationIsMeasuredPerCollective) {
  const Graph graph = models::build_step(gpt(2, 32, 4, 16), false);
  const KernelTable kernels = cpu_kernel_table();
  const NetworkModel slow{.latency_seconds = 2e-3, .bytes_per_second = 1e9};
  const Executable in_order =
      compile(lowered(graph, kSharded, 64 << 10), kernels, with_network(slow, false));
  const Measured measured = measure(in_order, slow, 2);
  ASSERT_EQ(measured.collectives.size(), measured.waits.size());
  for (const auto& collective : measured.collectives) {
    EXPECT_EQ(collective.runs, 3);
    EXPECT_GE(collective.waited_seconds, 3 * 1.5e-3) << "a wait right behind its start is exposed";
    EXPECT_LE(collective.waited_seconds, collective.in_flight_seconds);
  }
}

// A network on which the collectives of `plain` would take 0.7 of the time of its kernels, a fifth of
// it latency; and a scheduler's machine that computes as fast as this one.
struct SlowNetwork {
  NetworkModel model;
  double compute_seconds = 0;  // of the kernels
  double speed = 1;            // of the scheduler's machine over this one's

  explicit SlowNetwork(const Executable& plain) {
    compute_seconds = measure(plain, {}, 9).best_seconds;
    speed = plain.schedule.compute_seconds / compute_seconds;
    double wire = 0;
    for (const auto& entry : plain.schedule.collectives) wire += entry.seconds;
    const double collectives = static_cast<double>(plain.schedule.collectives.size());
    const double bytes_seconds = wire - collectives * CostModel().links[0].latency_seconds;
    model.latency_seconds = 0.14 * compute_seconds / collectives;
    model.bytes_per_second =
        CostModel().links[0].bytes_per_second * bytes_seconds / (0.56 * compute_seconds);
  }

  CompileOptions options(bool overlap) const {
    CompileOptions made = with_network(model, overlap);
    for (double* rate : {&made.cost.flops_f64, &made.cost.flops_f32, &made.cost.flops_narrow,
                         &made.cost.memory_bytes_per_second})
      *rate *= speed;
    made.cost.kernel_seconds /= speed;
    return made;
  }
};

// Both programs over the same network, in turn, in one run; the network's speed follows from the
// time that the step takes without it.
void compare(const char* name, const testing::Layout& layout) {
  const Graph graph = models::build_step(gpt(6, 128, 16, 64), false);
  const KernelTable kernels = cpu_kernel_table();
  const Graph local = lowered(graph, layout, 512 << 10);
  CompileOptions defaults;
  defaults.schedule.overlap = false;
  const Executable plain = compile(local, kernels, defaults);
  const SlowNetwork slow(plain);
  const NetworkModel& network = slow.model;
  const Executable overlapped = compile(local, kernels, slow.options(true));
  const Executable in_order = compile(local, kernels, slow.options(false));
  std::vector<double> ratios;
  Measured with, without;
  for (int round = 0; round < 5; ++round) {
    with = measure(overlapped, network, 5);
    without = measure(in_order, network, 5);
    ratios.push_back(with.step_seconds / without.step_seconds);
  }
  std::sort(ratios.begin(), ratios.end());
  auto waited = [](const Measured& measured) {
    double seconds = 0;
    for (const WaitRecord& wait : measured.waits) seconds += wait.waited;
    return seconds;
  };
  std::printf(
      "%s on %s: kernels %.1f ms, network %.2f ms and %.0f MB/s per collective of %zu; step %.1f ms "
      "overlapped, %.1f ms in order, ratio %.2f (%.2f to %.2f; the schedule says %.2f); waited %.1f "
      "and %.1f ms, %d and %d waits exposed of %zu\n",
      name, layout.mesh, slow.compute_seconds * 1e3, network.latency_seconds * 1e3,
      network.bytes_per_second * 1e-6, plain.schedule.collectives.size(), with.step_seconds * 1e3,
      without.step_seconds * 1e3, ratios[2], ratios[0], ratios[4],
      overlapped.schedule.step_seconds / in_order.schedule.step_seconds, waited(with) * 1e3,
      waited(without) * 1e3, exposed(with.waits), exposed(without.waits), with.waits.size());
  EXPECT_LT(ratios[2], 1);
  EXPECT_LT(exposed(with.waits), exposed(without.waits));
}

// Products behind gathers and in front of reduce_scatters, as rings and whole, both overlapped.
void compare_rings(const testing::Layout& layout) {
  const Graph graph = models::build_step(gpt(4, 256, 8, 128), false);
  const KernelTable kernels = cpu_kernel_table();
  CompileOptions defaults;
  defaults.schedule.overlap = false;
  const Graph local = lowered(graph, layout, 512 << 10);
  const SlowNetwork slow(compile(local, kernels, defaults));
  const Executable whole = compile(local, kernels, slow.options(true));
  for (const auto& [name, directions] :
       {std::pair{"one way", RingDirections::one_way}, {"two ways", RingDirections::two_way}}) {
    const Executable rings =
        compile(lowered(graph, layout, 512 << 10, directions), kernels, slow.options(true));
    std::vector<double> ratios;
    for (int round = 0; round < 5; ++round)
      ratios.push_back(measure(rings, slow.model, 5).step_seconds /
                       measure(whole, slow.model, 5).step_seconds);
    std::sort(ratios.begin(), ratios.end());
    std::printf("rings %s on %s: kernels %.1f ms; step %.2f of that without rings (%.2f to %.2f; the "
                "schedule says %.2f); %zu collectives, %zu without\n",
                name, layout.mesh, slow.compute_seconds * 1e3, ratios[2], ratios[0], ratios[4],
                rings.schedule.step_seconds / whole.schedule.step_seconds,
                rings.schedule.collectives.size(), whole.schedule.collectives.size());
    EXPECT_LT(rings.schedule.step_seconds, whole.schedule.step_seconds);
  }
}

TEST(OverlapLong, RingsHideWhatProductsGatherAndScatter) {
  const char* split = "heads=model kv_heads=model mlp=model vocab=model";
  const char* activations = "heads=model kv_heads=model mlp=model vocab=model length=model";
  compare_rings({"model=2", split, activations, split});
}

TEST(OverlapLong, StepsAreFasterThanInProgramOrder) {
  compare("data parallel", kData);
  compare("fully sharded", kSharded);
  compare("fully sharded", kSharded4);
}

}  // namespace
}  // namespace tessera
