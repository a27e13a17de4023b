// The partitioner: seconds and memory per 1,000 instructions of the training steps of a decoder and of
// a mixture of experts, from 8 to 65,536 devices. Nothing in a program's size depends on the number of devices, so neither does the
// time. The step's batch grows with the data axis; its graph does not.
//
//   ninja bench_partition_bench && bench/bench_partition_bench
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "core/base/strings.h"
#include "models/training_step.h"
#include "partitioner/partition.h"
#include "tests/bench/expert_step.h"

namespace tessera {
namespace {

models::StepConfig step_of(int64_t data) {
  models::StepConfig config;
  config.model = {.family = models::Family::gpt2,
                  .layers = 24,
                  .embed = 4096,
                  .heads = 32,
                  .kv_heads = 32,
                  .head_dim = 128,
                  .mlp = 16384,
                  .vocab = 50257,
                  .padded_vocab = 50304,
                  .context = 2048,
                  .tied_embeddings = true};
  config.compute = DType::bf16;
  config.remat = RematPolicy::full;
  config.clip_norm = 1;
  config.batch = 4 * data;
  config.length = 2048;
  return config;
}

ShardingConfig tensor_sequence() {
  ShardingConfig config;
  for (const char* name : {"heads", "kv_heads", "mlp", "vocab"})
    config.parameter_rules.push_back({name, {"model"}});
  config.activation_rules.push_back({"batch", {"data"}});
  for (const char* name : {"heads", "kv_heads", "mlp", "vocab", "length"})
    config.activation_rules.push_back({name, {"model"}});
  return config;
}

// Resident memory of the process, MiB: the largest since the last reset, or now. What an earlier run
// gave back to the heap is used again, so only the first row tells what a run takes.
double memory_mib(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(key, 0) == 0) return std::stod(line.substr(std::strlen(key) + 1)) / 1024;
  return 0;
}
void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Partitions `step` for the mesh, again and again.
void measure(benchmark::State& state, const Graph& step, const std::string& axes,
             const ShardingConfig& config) {
  const auto mesh = std::make_shared<const Mesh>(parse_mesh(axes));
  const double before = memory_mib("VmRSS:");
  reset_peak();
  const double thousands = static_cast<double>(step.instructions.size()) / 1000;
  size_t local = 0;
  for (auto _ : state)
    local = partition(step, mesh, config, {.verify = false}).instructions.size();
  state.counters["instructions"] = static_cast<double>(step.instructions.size());
  state.counters["local"] = static_cast<double>(local);
  state.counters["per_1000"] =
      benchmark::Counter(thousands * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["peak_MiB"] = memory_mib("VmHWM:") - before;
}

void BM_PartitionDecoder(benchmark::State& state) {
  const int64_t model = 8, data = state.range(0) / model;
  measure(state, models::build_step(step_of(data), false), cat("data=", data, ",model=", model),
          tensor_sequence());
}

// Experts over an axis of their own, batch over both; the dispatch is an all_to_all between them.
ShardingConfig experts() {
  ShardingConfig config;
  config.parameter_rules = {{"expert", {"expert"}}};
  config.activation_rules = {{"expert", {"expert"}}, {"batch", {"data", "expert"}}, {"batch", {"data"}}};
  return config;
}

void BM_PartitionExperts(benchmark::State& state) {
  const int64_t expert = 8, data = state.range(0) / expert;
  const bench::ExpertStep step{.layers = 24, .embed = 1024, .heads = 16, .mlp = 8192, .experts = 64,
                               .capacity = 64, .vocab = 32768, .batch = 4 * state.range(0), .length = 1024};
  measure(state, bench::build_expert_step(step), cat("data=", data, ",expert=", expert), experts());
}

BENCHMARK(BM_PartitionDecoder)
    ->RangeMultiplier(8)
    ->Range(8, 1 << 16)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PartitionExperts)
    ->RangeMultiplier(8)
    ->Range(8, 1 << 16)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tessera
