// What the ranks do in the tests of mpi_world_test.cpp. Without mpirun all of these are skipped.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/runtime/progress_engine.h"
#include "kernels/comm/mpi_world.h"
#include "tests/comm/mpi_run.h"
#include "tests/comm/reference_collectives.h"

#define ONLY_AS_WORKER(scenario) \
  if (!test::is_mpi_worker(#scenario)) GTEST_SKIP() << "runs under mpirun only"

namespace tessera {
namespace {

using namespace test;

MpiOptions options_from_environment() {
  MpiOptions options;
  if (const char* text = getenv("TESSERA_TEST_TIMEOUT")) options.timeout_seconds = atof(text);
  if (const char* text = getenv("TESSERA_TEST_MEMORY")) {
    if (strcmp(text, "none") == 0) options.host_memory = HostMemory::none;
    if (strcmp(text, "shm") == 0) options.host_memory = HostMemory::shm_file;
  }
  return options;
}

std::vector<int> range(int begin, int end, int step = 1) {
  std::vector<int> ranks;
  for (int rank = begin; rank < end; rank += step) ranks.push_back(rank);
  return ranks;
}

bool in_place_allowed(CollectiveKind kind) {
  return kind == CollectiveKind::all_reduce || kind == CollectiveKind::permute ||
         kind == CollectiveKind::broadcast;
}

// Sums between hosts are associated by host; the reference adds in rank order. Exact otherwise.
double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-13;
    case DType::f32:
      return 1e-5;
    case DType::f16:
      return 2e-3;
    case DType::bf16:
      return 1e-2;
    default:
      return 0.3;
  }
}

bool agrees(const HostTensor& got, const HostTensor& want, bool exact) {
  if (got == want) return true;
  if (got.type() != want.type()) return false;
  if (got.dtype() == DType::c64) {
    for (int64_t i = 0; i < got.elements(); ++i)
      if (std::abs(got.get_complex(i) - want.get_complex(i)) >
          (exact ? 0.0 : 1e-4 * (1 + std::abs(want.get_complex(i)))))
        return false;
    return true;
  }
  if (!is_float(got.dtype())) return false;
  for (int64_t i = 0; i < got.elements(); ++i) {
    const double x = got.get_real(i), y = want.get_real(i);
    if (std::isnan(x) && std::isnan(y)) continue;
    if (x != y && (exact || std::abs(x - y) > tolerance_of(got.dtype()) * (1 + std::abs(y))))
      return false;
  }
  return true;
}

// A group's random collectives, several in flight, operands in private or symmetric memory.
void check_random(World& world, Communicator& group, uint64_t seed, int count, int64_t max_elements,
                  bool exact, std::byte* symmetric) {
  std::mt19937_64 random(seed);
  std::vector<CollectiveCase> cases;
  std::vector<HostTensor> inputs, outputs, expected;
  std::vector<Ticket> tickets;
  for (int i = 0; i < count; ++i) {
    cases.push_back(random_case(random(), group.size(), max_elements));
    std::vector<HostTensor> all;
    const uint64_t input_seed = random();
    for (int rank = 0; rank < group.size(); ++rank)
      all.push_back(random_input(cases.back(), input_seed, rank));
    const auto rank = static_cast<size_t>(group.rank());
    inputs.push_back(all[rank]);
    expected.push_back(reference_collective(cases.back(), all)[rank]);
    outputs.emplace_back(expected.back().type());
  }
  const bool in_place = random() % 2 == 0, in_symmetric = random() % 2 == 0;
  std::byte* next = symmetric;
  std::vector<std::byte*> results;
  for (int i = 0; i < count; ++i) {
    const auto n = static_cast<size_t>(i);
    CollectiveCall call = cases[n].call(group.rank(), inputs[n], outputs[n], "t");
    const size_t in_bytes = inputs[n].bytes().size(), out_bytes = outputs[n].bytes().size();
    if (in_symmetric) {
      std::memcpy(next, inputs[n].bytes().data(), in_bytes);
      call.input = next;
      next += (in_bytes + 63) / 64 * 64;
      call.output = next;
      next += (out_bytes + 63) / 64 * 64;
    }
    if (in_place && in_place_allowed(cases[n].kind)) {
      std::memcpy(call.output, call.input, in_bytes);
      call.input = call.output;
    }
    results.push_back(static_cast<std::byte*>(call.output));
    tickets.push_back(group.start(call));
    if (random() % 3 == 0) group.poll();
  }
  for (const Ticket ticket : tickets) group.wait(ticket);
  for (size_t i = 0; i < cases.size(); ++i) {
    std::memcpy(outputs[i].bytes().data(), results[i], outputs[i].bytes().size());
    ASSERT_TRUE(agrees(outputs[i], expected[i], exact))
        << "rank " << world.rank() << ", " << name_of(cases[i].kind) << " of " << expected[i].type()
        << " in group " << group.name() << ", reduce " << cases[i].reduce << ", in place "
        << in_place << ", symmetric " << in_symmetric;
  }
}

void check_groups(World& world, bool exact, int rounds) {
  std::byte* symmetric = world.allocate_symmetric(int64_t{32} << 20);
  ASSERT_EQ(symmetric[12345], std::byte{0});
  const int n = world.size();
  const auto all = world.create_group(range(0, n), "all");
  const auto single = world.create_group(std::vector<int>{world.rank()}, "single");
  // Halves, and every second rank: on two hosts these lie within one or span both.
  const bool low = world.rank() < (n + 1) / 2;
  const auto half = world.create_group(low ? range(0, (n + 1) / 2) : range((n + 1) / 2, n), "half");
  const auto stride = world.create_group(range(world.rank() % 2, n, 2), "stride");
  std::vector<int> reversed = range(0, n);
  std::reverse(reversed.begin(), reversed.end());
  const auto backwards = world.create_group(reversed, "backwards");
  for (int round = 0; round < rounds; ++round) {
    const auto seed = static_cast<uint64_t>(round);
    check_random(world, *all, seed, 5, 3000, exact, symmetric);
    check_random(world, *half, seed + 1000 + low, 5, 3000, exact, symmetric);
    check_random(world, *stride, seed + 2000 + static_cast<uint64_t>(world.rank() % 2), 5, 3000,
                 exact, symmetric);
    check_random(world, *backwards, seed + 3000, 3, 3000, exact, symmetric);
    check_random(world, *single, seed + 4000, 3, 3000, true, symmetric);
    if (round % 5 == 0) check_random(world, *all, seed + 5000, 2, 100000, exact, symmetric);
  }
}

TEST(MpiWorker, Collectives) {
  ONLY_AS_WORKER(Collectives);
  const auto world = create_mpi_world(options_from_environment());
  const char* hosts = getenv("TESSERA_FAKE_HOST");
  check_groups(*world, hosts == nullptr, 25);
  EXPECT_EQ(world->all_reduce_max(world->rank() * 3), (world->size() - 1) * 3);
  EXPECT_EQ(world->broadcast_text(world->rank() == 1 ? "from one" : "no", 1), "from one");
  const auto texts =
      world->all_gather_text(std::string(static_cast<size_t>(world->rank() * 700), 'x'));
  for (int rank = 0; rank < world->size(); ++rank)
    EXPECT_EQ(texts[static_cast<size_t>(rank)].size(), static_cast<size_t>(rank * 700));
  if (hosts != nullptr && strcmp(hosts, "a,a,b,b") == 0) {
    EXPECT_EQ(world->local_size(), 2);
    EXPECT_EQ(world->local_rank(), world->rank() % 2);
    EXPECT_EQ(world->host_name(), world->rank() < 2 ? "a" : "b");
  }
}

TEST(MpiWorker, BitwiseEqual) {
  ONLY_AS_WORKER(BitwiseEqual);
  const auto world = create_mpi_world(options_from_environment());
  const auto all = world->create_group(range(0, world->size()), "all");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CollectiveCase what;
    what.dtype = dtype;
    what.shape = {50001};
    const HostTensor input = random_input(what, 7, world->rank());
    HostTensor output({dtype, what.shape}), again({dtype, what.shape});
    all->run(what.call(world->rank(), input, output, "t"));
    all->run(what.call(world->rank(), input, again, "t"));
    EXPECT_TRUE(output == again);
    const auto* bytes = reinterpret_cast<const char*>(output.bytes().data());
    for (const std::string& other : world->all_gather_text({bytes, output.bytes().size()}))
      EXPECT_EQ(std::memcmp(other.data(), bytes, output.bytes().size()), 0);
  }
}

// Ranks wait on each other in different groups in different orders.
TEST(MpiWorker, Interleaved) {
  ONLY_AS_WORKER(Interleaved);
  const auto world = create_mpi_world(options_from_environment());
  const int n = world->size(), rank = world->rank();
  const auto all = world->create_group(range(0, n), "all");
  const auto pair = world->create_group(range(rank / 2 * 2, std::min(rank / 2 * 2 + 2, n)), "pair");
  std::vector<float> a(30000), b(20000);
  for (int round = 0; round < 50; ++round) {
    a.assign(a.size(), static_cast<float>(rank));
    b.assign(b.size(), 1.0f);
    CollectiveCall call;
    call.input = call.output = a.data();
    call.shape = {30000};
    const Ticket ta = all->start(call);
    call.input = call.output = b.data();
    call.shape = {20000};
    const Ticket tb = pair->start(call);
    if (rank % 2 == 0) {
      all->wait(ta);
      pair->wait(tb);
    } else {
      pair->wait(tb);
      all->wait(ta);
    }
    ASSERT_EQ(a[29999], static_cast<float>(n * (n - 1) / 2));
    ASSERT_EQ(b[19999], static_cast<float>(pair->size()));
  }
}

// Rank 1 does `misdeed` while the others wait in a collective.
void misbehave(void (*misdeed)(World&)) {
  const auto world = create_mpi_world(options_from_environment());
  const auto all = world->create_group(range(0, world->size()), "data");
  std::vector<float> values(100000, 1.0f);
  CollectiveCall call;
  call.input = call.output = values.data();
  call.shape = {100000};
  call.tensor = "layers/3/w";
  for (int step = 0; step < 3; ++step) all->run(call);
  if (world->rank() == 1) misdeed(*world);
  call.tensor = "layers/4/w";
  try {
    all->run(call);
  } catch (const PeerFailure& error) {
    log_error("rank ", world->rank(), " got: ", error.what());
    throw;
  }
}

TEST(MpiWorker, Stop) {
  ONLY_AS_WORKER(Stop);
  misbehave([](World&) { raise(SIGSTOP); });
}

TEST(MpiWorker, Kill) {
  ONLY_AS_WORKER(Kill);
  signal(SIGTERM, SIG_IGN);  // as the program does, which saves first; mpirun's SIGKILL follows
  misbehave([](World&) { raise(SIGKILL); });
}

TEST(MpiWorker, Hang) {
  ONLY_AS_WORKER(Hang);
  misbehave([](World&) { std::this_thread::sleep_for(std::chrono::seconds(100)); });
}

TEST(MpiWorker, Throw) {
  ONLY_AS_WORKER(Throw);
  misbehave([](World& world) {
    world.abort("the disk is full");
    // When this rank ends, mpirun ends the others, which on a busy machine may not have said what they heard.
    std::this_thread::sleep_for(std::chrono::seconds(3));
    throw_user_error("the disk is full");
  });
}

// The timeout may be set later than MPI starts.
TEST(MpiWorker, LateTimeout) {
  ONLY_AS_WORKER(LateTimeout);
  const auto world = create_mpi_world({});
  world->set_timeout(1.5);
  if (world->rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(100));
  world->barrier();
}

}  // namespace
}  // namespace tessera
