#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <string>

#include "core/base/error.h"
#include "core/base/steady_clock.h"
#include "core/ops/philox.h"
#include "kernels/comm/mpi_world.h"
#include "launch/config/load.h"
#include "launch/engine/memory_fit.h"
#include "launch/engine/rank_device.h"
#include "launch/engine/session.h"
#include "launch/verbs/verbs.h"

namespace tessera {
namespace {

// Bytes of this process in memory. `others` is what it maps but other processes account for: where
// n processes map a page, (n - 1) / n of it. With the ranks of a host sharing their arenas, it is
// what they hold for each other (and the program's text).
struct Memory {
  int64_t resident = 0, others = 0;
};

Memory memory_now() {
  Memory memory;
  int64_t proportional = 0;
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string line; std::getline(rollup, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t kibibytes = 0;
    words >> key >> kibibytes;
    if (key == "Rss:") memory.resident = kibibytes * 1024;
    if (key == "Pss:") proportional = kibibytes * 1024;
  }
  memory.others = memory.resident - proportional;
  return memory;
}

int64_t most_resident_bytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One step and one probe of the peak after the other, so that both see the same machine.
struct StepRounds {
  std::vector<double> seconds, peak;
  std::map<std::string, double> profile;
};

StepRounds measure_steps(Session& session, PeakProbe& probe, World& world, int64_t rounds) {
  const JobConfig& job = session.job().config;
  const ReadRows random_rows = [&](int64_t micro, int64_t row, int64_t rows, TokenBatch& batch) {
    batch.resize(rows, job.train.sequence_length);
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      const uint64_t index = static_cast<uint64_t>((micro + row) * 1000003) + i;
      batch.tokens[i] = static_cast<int32_t>(random_uniform(1, 1, index) * static_cast<double>(job.model.vocab));
      batch.targets[i] = static_cast<int32_t>(random_uniform(1, 2, index) * static_cast<double>(job.model.vocab));
      batch.weights[i] = 1;
    }
  };
  StepRounds result;
  session.train_step(0, 1e-4, random_rows);  // touches all memory
  const auto warm = session.profile();
  for (int64_t round = 0; round < rounds; ++round) {
    result.peak.push_back(probe.measure(world));
    world.barrier();
    const double start = steady_seconds();
    session.train_step(round + 1, 1e-4, random_rows);
    world.barrier();
    result.seconds.push_back(steady_seconds() - start);
  }
  result.profile = session.profile();
  for (auto& [name, seconds] : result.profile) {
    if (const auto before = warm.find(name); before != warm.end()) seconds -= before->second;
    seconds /= static_cast<double>(rounds);
  }
  return result;
}

// Bytes per second of all_reduce over all ranks, ours and the MPI library's, interleaved.
struct AllReduceRow {
  int64_t bytes = 0;
  double ours = 0, library = 0;
};

std::vector<AllReduceRow> measure_all_reduce(World& world) {
  std::vector<int> everyone(static_cast<size_t>(world.size()));
  std::iota(everyone.begin(), everyone.end(), 0);
  const auto group = world.create_group(everyone, "all");
  constexpr int64_t kLargest = 64 << 20;
  auto* buffer = reinterpret_cast<float*>(world.allocate_symmetric(kLargest));
  std::vector<AllReduceRow> rows;
  for (int64_t bytes = 64 << 10; bytes <= kLargest; bytes *= 4) {
    const int64_t count = bytes / 4;
    double ours = 1e9, library = 1e9;
    for (int round = 0; round < 9; ++round) {
      world.barrier();
      double start = steady_seconds();
      group->run({.kind = CollectiveKind::all_reduce, .input = buffer, .output = buffer, .dtype = DType::f32,
                  .shape = {count}, .tensor = "bench"});
      ours = std::min(ours, steady_seconds() - start);
      world.barrier();
      start = steady_seconds();
      mpi_library_all_reduce(world, buffer, count);
      library = std::min(library, steady_seconds() - start);
    }
    rows.push_back({bytes, static_cast<double>(bytes) / ours, static_cast<double>(bytes) / library});
  }
  return rows;
}

nlohmann::json report(const JobConfig& job, const StepRounds& rounds, double flops_per_token,
                      const std::vector<AllReduceRow>& all_reduce) {
  const double tokens = static_cast<double>(job.train.global_batch * job.train.sequence_length);
  std::vector<double> shares;
  for (size_t i = 0; i < rounds.seconds.size(); ++i)
    shares.push_back(tokens * flops_per_token / rounds.seconds[i] / rounds.peak[i]);
  const double best = *std::min_element(rounds.seconds.begin(), rounds.seconds.end());
  nlohmann::json json = {
      {"tokens", tokens},
      {"seconds_best", best}, {"seconds_median", median(rounds.seconds)},
      {"tokens_per_second_best", tokens / best}, {"tokens_per_second_median", tokens / median(rounds.seconds)},
      {"flops_per_token", flops_per_token},
      {"peak_flops_best", *std::max_element(rounds.peak.begin(), rounds.peak.end())},
      {"share_of_peak_median", median(shares)},
      {"share_of_best_peak", tokens * flops_per_token / best / *std::max_element(rounds.peak.begin(), rounds.peak.end())},
      {"profile_seconds", rounds.profile}};
  for (const AllReduceRow& row : all_reduce)
    json["all_reduce"].push_back({{"bytes", row.bytes}, {"bytes_per_second", row.ours},
                                  {"mpi_bytes_per_second", row.library}, {"ratio", row.ours / row.library}});
  return json;
}

void print(const nlohmann::json& json) {
  std::printf("step: best %.3f s, median %.3f s; %.1f tokens/s best, %.1f median\n", json["seconds_best"].get<double>(),
              json["seconds_median"].get<double>(), json["tokens_per_second_best"].get<double>(),
              json["tokens_per_second_median"].get<double>());
  std::printf("matrix-product peak in the same run: %.1f GFLOP/s; share of it, median of rounds: %.1f%%, best step of best peak: %.1f%%\n",
              json["peak_flops_best"].get<double>() / 1e9, 100 * json["share_of_peak_median"].get<double>(),
              100 * json["share_of_best_peak"].get<double>());
  std::printf("memory of the step on rank 0: planned %s, used %s\n",
              human_bytes(json["memory_planned_bytes"].get<double>()).c_str(),
              human_bytes(json["memory_used_bytes"].get<double>()).c_str());
  std::vector<std::pair<double, std::string>> parts;
  for (const auto& [name, seconds] : json["profile_seconds"].items()) parts.emplace_back(seconds.get<double>(), name);
  std::sort(parts.rbegin(), parts.rend());
  std::printf("seconds of a step by op (rank 0):\n");
  for (const auto& [seconds, name] : parts)
    if (seconds > 1e-4) std::printf("  %8.4f  %s\n", seconds, name.c_str());
  if (!json.contains("all_reduce")) return;
  std::printf("all_reduce of f32, GB/s (bytes over time): ours, MPI library, ratio\n");
  for (const auto& row : json["all_reduce"])
    std::printf("  %9s  %7.2f  %7.2f  %5.1f\n", human_bytes(row["bytes"].get<double>()).c_str(),
                row["bytes_per_second"].get<double>() / 1e9, row["mpi_bytes_per_second"].get<double>() / 1e9,
                row["ratio"].get<double>());
}

}  // namespace

int run_bench(const BenchArguments& arguments) {
  const std::unique_ptr<World> inner = create_mpi_world();
  const JobConfig job = load_job(arguments.job.job, {.sharding_file = arguments.job.sharding_file,
                                                     .mesh = arguments.job.mesh, .sets = arguments.job.sets,
                                                     .device_count = inner->size(), .purpose = LoadPurpose::plan});
  RankDevice device(job.device, job.train.threads, *inner);
  device.check_products(job.train);
  World* const world = &device.world();
  const auto compiled = compile_job(job, kernel_table(job.device));
  check_memory_fits(*compiled, device);
  PeakProbe probe = device.peak_probe(job.train.compute_dtype);
  probe.measure(*world);  // touches its memory, which is not the step's
  world->barrier();  // the ranks share what they will share of the program's text
  const Memory before = memory_now();
  // A GPU that is waited for after every step does not show its speed.
  Session session(compiled, device.backend(), *world, {.profile = device.backend().is_host()});
  session.initialise();
  const StepRounds rounds = measure_steps(session, probe, *world, arguments.rounds);
  const Memory after = memory_now();
  const int64_t used = most_resident_bytes() - before.resident - (after.others - before.others);
  world->barrier();  // nobody unmaps before all have looked
  std::vector<AllReduceRow> all_reduce;
  if (world->size() > 1 && device.backend().is_host()) all_reduce = measure_all_reduce(*world);
  if (world->rank() != 0) return 0;
  nlohmann::json json =
      report(job, rounds,
             models::train_flops_per_token(session.job().step_config.model, job.train.sequence_length), all_reduce);
  json["memory_planned_bytes"] = compiled->step.executable->memory.peak_bytes();
  json["memory_used_bytes"] = used;
  if (arguments.json != "-") print(json);
  if (!arguments.json.empty()) write_report(arguments.json, json.dump(2));
  return 0;
}

}  // namespace tessera
