#include "core/runtime/thread_world.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "core/base/error.h"
#include "core/runtime/progress_engine.h"
#include "tests/comm/reference_collectives.h"

namespace tessera {
namespace {

using test::CollectiveCase;
using test::random_case;
using test::random_input;
using test::reference_collective;

std::vector<int> all_ranks(const World& world) {
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

TensorType output_type(const CollectiveCase& what, int size) {
  CollectiveCall call;
  call.kind = what.kind;
  call.dtype = what.dtype;
  call.shape = what.shape;
  call.split_dim = what.split_dim;
  call.concat_dim = what.concat_dim;
  return {what.dtype, output_shape(call, size)};
}

bool may_be_in_place(CollectiveKind kind) {
  return kind == CollectiveKind::all_reduce || kind == CollectiveKind::permute ||
         kind == CollectiveKind::broadcast;
}

// Bitwise, or NaN in both: f8 overflows to NaN, whose sign is nobody's promise.
bool same(const HostTensor& a, const HostTensor& b) {
  if (a == b) return true;
  if (a.type() != b.type() || !is_float(a.dtype())) return false;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.get_real(i), y = b.get_real(i);
    if (x != y && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

// Every rank runs `cases` collectives, all started before any is waited for when `together`.
void run_cases(int size, const std::vector<uint64_t>& seeds, bool together, bool in_place,
               int64_t max_elements) {
  std::vector<CollectiveCase> cases;
  std::vector<std::vector<HostTensor>> expected;
  for (const uint64_t seed : seeds) {
    cases.push_back(random_case(seed, size, max_elements));
    std::vector<HostTensor> inputs;
    for (int rank = 0; rank < size; ++rank)
      inputs.push_back(random_input(cases.back(), seed, rank));
    expected.push_back(reference_collective(cases.back(), inputs));
  }
  std::atomic<int> wrong{0};
  run_thread_ranks(size, [&](World& world) {
    const auto group = world.create_group(all_ranks(world), "all");
    const int rank = group->rank();
    std::vector<HostTensor> inputs, outputs;
    for (size_t i = 0; i < cases.size(); ++i) {
      inputs.push_back(random_input(cases[i], seeds[i], rank));
      outputs.emplace_back(output_type(cases[i], size));
      if (in_place && may_be_in_place(cases[i].kind)) outputs.back() = inputs.back();
    }
    std::vector<Ticket> tickets;
    for (size_t i = 0; i < cases.size(); ++i) {
      const HostTensor& input = in_place && may_be_in_place(cases[i].kind) ? outputs[i] : inputs[i];
      const Ticket ticket = group->start(cases[i].call(rank, input, outputs[i], "t"));
      if (together)
        tickets.push_back(ticket);
      else
        group->wait(ticket);
    }
    for (const Ticket ticket : tickets) group->wait(ticket);
    for (size_t i = 0; i < cases.size(); ++i)
      if (!same(outputs[i], expected[i][static_cast<size_t>(rank)])) ++wrong;
  });
  RC_ASSERT(wrong.load() == 0);
}

RC_GTEST_PROP(ThreadCollectives, EqualTheReference, ()) {
  const int size = *rc::gen::inRange(1, 9);
  const auto seeds = *rc::gen::container<std::vector<uint64_t>>(6, rc::gen::arbitrary<uint64_t>());
  run_cases(size, seeds, *rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>(), 4000);
}

RC_GTEST_PROP(ThreadCollectives, SmallOnesEqualTheReferenceToo, ()) {
  const int size = *rc::gen::inRange(2, 6);
  const auto seeds = *rc::gen::container<std::vector<uint64_t>>(40, rc::gen::arbitrary<uint64_t>());
  run_cases(size, seeds, *rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>(), 60);
}

TEST(ThreadCollectives, LargeOnesEqualTheReference) {
  for (uint64_t seed = 1; seed <= 8; ++seed)
    run_cases(3, {seed, seed + 100}, true, seed % 2, 300000);
}

CollectiveCall sum_call(float* in, float* out, int64_t count, std::string_view name = "x") {
  CollectiveCall call;
  call.input = in;
  call.output = out;
  call.shape = {count};
  call.tensor = name;
  return call;
}

TEST(ThreadCollectives, GroupsOfMeshAxesInterleave) {
  // A 4 x 2 mesh; collectives of rows, columns and all are in flight together, waited for in an
  // order that differs between ranks: a rank must serve one group while it waits in another.
  constexpr int kRounds = 40;
  run_thread_ranks(8, [](World& world) {
    const int row = world.rank() / 2, column = world.rank() % 2;
    const auto model = world.create_group(std::vector<int>{row * 2, row * 2 + 1}, "model");
    const auto data =
        world.create_group(std::vector<int>{column, column + 2, column + 4, column + 6}, "data");
    const auto all = world.create_group(all_ranks(world), "data,model");
    std::vector<float> a(3000), b(5000), c(100);
    for (int round = 0; round < kRounds; ++round) {
      a.assign(a.size(), static_cast<float>(world.rank()));
      b.assign(b.size(), static_cast<float>(world.rank() * round));
      c.assign(c.size(), 1.0f);
      const Ticket ta = model->start(sum_call(a.data(), a.data(), 3000));
      const Ticket tb = data->start(sum_call(b.data(), b.data(), 5000));
      const Ticket tc = all->start(sum_call(c.data(), c.data(), 100));
      if (world.rank() % 3 == 0) {
        all->wait(tc);
        data->wait(tb);
        model->wait(ta);
      } else if (world.rank() % 3 == 1) {
        model->wait(ta);
        all->wait(tc);
        data->wait(tb);
      } else {
        data->wait(tb);
        model->wait(ta);
        all->wait(tc);
      }
      TESSERA_CHECK(a[2999] == static_cast<float>(row * 4 + 1));
      TESSERA_CHECK(b[4999] == static_cast<float>((12 + 4 * column) * round));
      TESSERA_CHECK(c[99] == 8.0f);
    }
  });
}

TEST(ThreadCollectives, SixtyFourRanksOnFewCores) {
  std::atomic<int> done{0};
  run_thread_ranks(64, [&](World& world) {
    const auto group = world.create_group(all_ranks(world), "all");
    std::vector<float> values(2000);
    for (int round = 0; round < 5; ++round) {
      values.assign(values.size(), static_cast<float>(world.rank()));
      group->run(sum_call(values.data(), values.data(), 2000));
      TESSERA_CHECK(values[0] == 2016.0f && values[1999] == 2016.0f);
    }
    world.barrier();
    ++done;
  });
  EXPECT_EQ(done, 64);
}

TEST(ThreadCollectives, SumsAreBitwiseEqualOnAllRanksAndRuns) {
  std::vector<std::vector<float>> results(10);
  for (int run = 0; run < 2; ++run)
    run_thread_ranks(5, [&](World& world) {
      const auto group = world.create_group(all_ranks(world), "all");
      std::vector<float> values(10001);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = 1.0f / static_cast<float>(1 + i * 7 + static_cast<size_t>(world.rank()) * 13);
      group->run(sum_call(values.data(), values.data(), 10001));
      results[static_cast<size_t>(run * 5 + world.rank())] = values;
    });
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

TEST(ThreadCollectives, InPlaceGatherAndScatterInsideTheLargerBuffer) {
  run_thread_ranks(4, [](World& world) {
    const auto group = world.create_group(all_ranks(world), "all");
    auto* buffer = reinterpret_cast<float*>(world.allocate_symmetric(4 * 3000 * 4));
    TESSERA_CHECK(reinterpret_cast<uintptr_t>(buffer) % 64 == 0 && buffer[0] == 0);
    float* mine = buffer + 3000 * world.rank();
    std::fill_n(mine, 3000, static_cast<float>(world.rank() + 1));
    CollectiveCall call = sum_call(mine, buffer, 3000);
    call.kind = CollectiveKind::all_gather;
    group->run(call);
    for (int i = 0; i < 12000; ++i) TESSERA_CHECK(buffer[i] == static_cast<float>(i / 3000 + 1));
    call = sum_call(buffer, mine, 12000);
    call.kind = CollectiveKind::reduce_scatter;
    group->run(call);
    for (int i = 0; i < 3000; ++i)
      TESSERA_CHECK(mine[i] == 4.0f * static_cast<float>(world.rank() + 1));
  });
}

TEST(ThreadCollectives, MoreInFlightThanSlots) {
  run_thread_ranks(3, [](World& world) {
    const auto group = world.create_group(all_ranks(world), "all");
    std::vector<std::vector<float>> buffers(100, std::vector<float>(2000, 1.0f));
    std::vector<Ticket> tickets;
    for (auto& buffer : buffers)
      tickets.push_back(group->start(sum_call(buffer.data(), buffer.data(), 2000)));
    for (const Ticket ticket : tickets) group->wait(ticket);
    for (const auto& buffer : buffers) TESSERA_CHECK(buffer[1999] == 3.0f);
  });
}

TEST(ThreadWorld, ControlPlane) {
  run_thread_ranks(6, [](World& world) {
    EXPECT_EQ(world.all_reduce_max(world.rank() == 4 ? 77 : -world.rank()), 77);
    const std::string long_text(9000, 'q');
    EXPECT_EQ(world.broadcast_text(world.rank() == 2 ? long_text : "ignored", 2), long_text);
    EXPECT_EQ(world.broadcast_text("", 0), "");
    const auto texts = world.all_gather_text(std::string(static_cast<size_t>(world.rank()), 'a'));
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(texts[i], std::string(i, 'a'));
    world.barrier();
  });
}

TEST(ThreadWorld, TheFirstExceptionComesBackWithItsRank) {
  try {
    run_thread_ranks(4, [](World& world) {
      if (world.rank() == 2) throw_config_error("the batch does not fit");
      world.barrier();
    });
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "rank 2: the batch does not fit");
  }
}

TEST(ThreadWorld, ATimeoutNamesTheLaggingRankCollectiveNumberAndTensor) {
  try {
    run_thread_ranks(3,
                     [](World& world) {
                       const auto group = world.create_group(all_ranks(world), "data");
                       std::vector<float> values(5000);
                       group->run(sum_call(values.data(), values.data(), 5000, "layers/0/w"));
                       if (world.rank() == 1) {
                         std::this_thread::sleep_for(std::chrono::milliseconds(600));
                         return;
                       }
                       group->run(sum_call(values.data(), values.data(), 5000, "layers/1/w"));
                     },
                     {.timeout_seconds = 0.2});
    FAIL();
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("all_reduce #2 of 'layers/1/w' in group 'data'"), text.npos) << text;
    EXPECT_NE(
        text.find(
            "rank 1 lags: it has not reached it, and started all_reduce #1 of 'layers/0/w' last"),
        text.npos)
        << text;
  }
}

TEST(ThreadWorld, ALateShareIsNamedToo) {
  try {
    run_thread_ranks(2,
                     [](World& world) {
                       const auto group = world.create_group(all_ranks(world), "data");
                       std::vector<float> values(5000);
                       const Ticket ticket =
                           group->start(sum_call(values.data(), values.data(), 5000, "w"));
                       if (world.rank() == 0)
                         std::this_thread::sleep_for(std::chrono::milliseconds(600));
                       group->wait(ticket);
                     },
                     {.timeout_seconds = 0.2});
    FAIL();
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("rank 0 lags: it started it but has not done its share"), text.npos)
        << text;
  }
}

TEST(ThreadWorld, CollectivesThatDifferBetweenRanksAreAnInternalError) {
  EXPECT_THROW(run_thread_ranks(2,
                                [](World& world) {
                                  const auto group = world.create_group(all_ranks(world), "data");
                                  std::vector<float> values(5000);
                                  group->run(sum_call(values.data(), values.data(),
                                                      world.rank() == 0 ? 5000 : 4000));
                                }),
               InternalError);
}

TEST(ThreadWorld, TooManyRanksAreRefused) {
  EXPECT_THROW(run_thread_ranks(0, [](World&) {}), ConfigError);
  EXPECT_THROW(run_thread_ranks(5000, [](World&) {}), ConfigError);
}

TEST(SingleWorld, CopiesAndZeros) {
  const auto world = create_single_world();
  EXPECT_EQ(world->size(), 1);
  const auto group = world->create_group(std::vector<int>{0}, "data");
  std::vector<float> in{1, 2, 3}, out(3);
  group->run(sum_call(in.data(), out.data(), 3));
  EXPECT_EQ(out, in);
  CollectiveCall call = sum_call(in.data(), out.data(), 3);
  call.kind = CollectiveKind::permute;
  group->run(call);
  EXPECT_EQ(out, std::vector<float>(3));
  EXPECT_EQ(world->all_gather_text("a"), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace tessera
