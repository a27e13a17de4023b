// Our all-reduce beside MPI_Allreduce: f32 sums, in place, both in one run and interleaved, because
// only ratios of neighbouring measurements mean anything on a shared machine.
//
//     mpirun -np 2 build/bench/bench_collectives_bench [--json FILE]
//
// GB/s are bytes of one rank's tensor over time ("algbw"). "private" operands lie outside symmetric
// memory, so ours copies them through a staging buffer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "kernels/comm/mpi_world.h"

namespace tessera {
namespace {

struct Timing {
  double best = 0, median = 0;  // seconds
};

Timing summarize(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

// Seconds of one call, of `repeats` back to back.
double measure(World& world, int repeats, const std::function<void()>& body) {
  world.barrier();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / repeats;
}

struct Row {
  int64_t bytes;
  Timing ours, ours_private, mpi;
};

Row measure_size(World& world, Communicator& group, int64_t bytes, std::byte* symmetric) {
  const int64_t count = bytes / 4;
  const auto elements = static_cast<size_t>(count);
  auto* shared = reinterpret_cast<float*>(symmetric);
  std::vector<float> own(elements, 0.0f), theirs(elements, 0.0f);
  std::fill_n(shared, elements, 0.0f);
  CollectiveCall call;
  call.shape = {count};
  call.tensor = "bench";
  const auto reduce = [&](float* values) {
    call.input = call.output = values;
    group.run(call);
  };
  const int repeats = static_cast<int>(std::clamp<int64_t>((int64_t{16} << 20) / bytes, 1, 500));
  constexpr int kRounds = 11;
  std::vector<double> ours, ours_private, mpi;
  for (int round = -1; round < kRounds; ++round) {
    const double a = measure(world, repeats, [&] { reduce(shared); });
    const double b =
        measure(world, repeats, [&] { mpi_library_all_reduce(world, theirs.data(), count); });
    const double c = measure(world, repeats, [&] { reduce(own.data()); });
    if (round < 0) continue;  // warms up
    ours.push_back(a);
    mpi.push_back(b);
    ours_private.push_back(c);
  }
  return {bytes, summarize(ours), summarize(ours_private), summarize(mpi)};
}

void print(const std::vector<Row>& rows, int ranks) {
  std::printf("all_reduce f32 sum, %d ranks, microseconds median (best); GB/s of the median\n",
              ranks);
  std::printf("%10s %22s %22s %22s %8s %8s\n", "bytes", "ours", "ours, private", "MPI_Allreduce",
              "ratio", "GB/s");
  for (const Row& row : rows)
    std::printf("%10lld %11.1f (%8.1f) %11.1f (%8.1f) %11.1f (%8.1f) %7.2fx %8.2f\n",
                static_cast<long long>(row.bytes), row.ours.median * 1e6, row.ours.best * 1e6,
                row.ours_private.median * 1e6, row.ours_private.best * 1e6, row.mpi.median * 1e6,
                row.mpi.best * 1e6, row.mpi.median / row.ours.median,
                static_cast<double>(row.bytes) / row.ours.median * 1e-9);
}

void write_json(const std::string& path, const std::vector<Row>& rows, int ranks) {
  std::ofstream file(path);
  if (!file) throw_user_error("cannot write ", path);
  file << "{\"ranks\": " << ranks << ", \"all_reduce\": [";
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    file << (i ? "," : "") << "\n  {\"bytes\": " << row.bytes
         << ", \"seconds\": " << row.ours.median << ", \"seconds_best\": " << row.ours.best
         << ", \"seconds_private\": " << row.ours_private.median
         << ", \"mpi_seconds\": " << row.mpi.median << ", \"mpi_seconds_best\": " << row.mpi.best
         << ", \"ratio\": " << row.mpi.median / row.ours.median << "}";
  }
  file << "\n]}\n";
}

int run(int argc, char** argv) {
  const auto world = create_mpi_world();
  if (world->size() < 2) throw_config_error("start this under mpirun with 2 ranks or more");
  std::vector<int> ranks(static_cast<size_t>(world->size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const auto group = world->create_group(ranks, "all");
  constexpr int64_t kLargest = int64_t{64} << 20;
  std::byte* symmetric = world->allocate_symmetric(kLargest);
  std::vector<Row> rows;
  for (int64_t bytes = 1024; bytes <= kLargest; bytes *= 4)
    rows.push_back(measure_size(*world, *group, bytes, symmetric));
  if (world->rank() != 0) return 0;
  print(rows, world->size());
  if (argc == 3 && std::strcmp(argv[1], "--json") == 0) write_json(argv[2], rows, world->size());
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  try {
    return tessera::run(argc, argv);
  } catch (const tessera::ConfigError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
